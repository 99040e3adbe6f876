"""Network, training and voting on a CUDA device; skipped without one."""

import numpy as np
import pytest
import torch

from ffreid.engine.batchnorm import synchronise
from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.pose.data.batch import PoseBatch
from ffreid.pose.data.sample import make_ground_truth
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import ycb_objects
from ffreid.pose.task import PoseTask
from ffreid.pose.voting.frame import frame_poses
from tests.pose.model.recipes import as_inputs, as_targets, fill, raw_inputs, without_dropout
from tests.variants import VARIANTS, check_updates, losses_of, trainer_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CLASSES = 22
DEVICE = torch.device("cuda", 0)


def _net() -> FFB6D:
    net = FFB6D(CLASSES)
    fill(net)
    without_dropout(net)
    return net


def noise(batch: int, height: int, width: int, points: int) -> PoseBatch:
    """A batch of noise."""
    raw = raw_inputs(7, batch, height, width, points, CLASSES)
    gt = make_ground_truth("none", np.zeros(0, np.int32), np.zeros((0, 3, 4)), ycb_objects())
    return PoseBatch(as_inputs(raw), as_targets(raw), (gt,) * batch)


def _batch() -> PoseBatch:
    return noise(2, 96, 128, 1024)


def test_outputs_are_those_of_the_cpu_in_float64() -> None:
    net = _net().double().eval()
    inputs = _batch().inputs
    with torch.inference_mode():
        expected = net(inputs.to(torch.device("cpu"), torch.float64))
        ours = net.cuda()(inputs.to(torch.device("cuda"), torch.float64))
    for name in ("segmentation", "keypoint_offsets", "centre_offsets"):
        torch.testing.assert_close(
            getattr(ours, name).cpu(), getattr(expected, name), rtol=1e-8, atol=1e-9
        )


@pytest.mark.parametrize("sync", [False, True])
def test_a_training_step_gives_the_losses_of_the_cpu(sync: bool) -> None:
    losses = []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        net = synchronise(_net(), device) if sync else _net()
        task = PoseTask(net, offset_samples=3.0, frozen=False, momentum_batch=None)
        task = task.to(device, torch.float64)
        train_step = TrainStep(
            task,
            {"net": torch.optim.Adam(task.get_submodule("net").parameters())},
            {"net": lambda step: 1e-5},
            device=device,
            dtype=torch.float64,
            seed=0,
        )
        losses.append(
            [train_step.step([_batch()], Progress(i, 2, 0)).terms["loss"] for i in range(2)]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def _task() -> PoseTask:
    return PoseTask(_net(), offset_samples=3.0, frozen=False, momentum_batch=None)


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_agree_with_single_precision(name: str) -> None:
    variant = VARIANTS[name]
    expected = losses_of(_task(), _batch(), VARIANTS["fp32"], DEVICE)
    result = losses_of(_task(), _batch(), variant, DEVICE)
    assert result == pytest.approx(expected, rel=variant.near)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_half_precision_updates_weights_and_keeps_them_finite(name: str) -> None:
    """The initial loss scale is too large and is reduced within some steps."""
    train_step = trainer_of(_task(), VARIANTS[name], DEVICE)
    check_updates(train_step, _batch())


def test_deterministic_training_is_bitwise_reproducible() -> None:
    variant = VARIANTS["deterministic"]
    assert losses_of(_task(), _batch(), variant, DEVICE) == losses_of(
        _task(), _batch(), variant, DEVICE
    )


def test_voting_gives_the_poses_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(1)
    objects = ycb_objects()
    points = torch.randn(200, 3, generator=generator, dtype=torch.float64) * 0.03
    model = torch.from_numpy(objects.keypoints[1]).double()
    offsets = points - model[:, None]
    centres = points - torch.from_numpy(objects.centres[1]).double()
    labels = torch.full((200,), 2)
    cpu = frame_poses(points, labels, centres, offsets, objects)
    gpu = frame_poses(points.cuda(), labels.cuda(), centres.cuda(), offsets.cuda(), objects)
    np.testing.assert_allclose(
        gpu[0].camera_from_object, cpu[0].camera_from_object, rtol=0, atol=1e-6
    )
