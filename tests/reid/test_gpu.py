"""Training on a CUDA device; skipped without one."""

import pytest
import torch

from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.model import NETWORKS
from ffreid.reid.task import ReidTask
from tests.reid.cal_task import cal_task, labels
from tests.reid.synthetic_weights import fill
from tests.variants import VARIANTS, check_updates, losses_of, switched, train, trainer_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = torch.device("cuda", 0)


def _task(name: str, *, recompute: bool = False) -> ReidTask:
    net = NETWORKS[name](recompute=recompute)
    fill(net)
    return cal_task(net, net.feature_dim)


def _batch(name: str) -> ReidBatch:
    frames = () if name == "resnet50" else (2,)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(8, 3, *frames, 64, 32, generator=generator)
    return ReidBatch(images, *labels(8), names=tuple("abcdefgh"))


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.parametrize("network", ["resnet50", "ap3dnlres50"])
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_agree_with_single_precision(name: str, network: str) -> None:
    variant = VARIANTS[name]
    expected = losses_of(_task(network), _batch(network), VARIANTS["fp32"], DEVICE)
    result = losses_of(_task(network), _batch(network), variant, DEVICE)
    assert result == pytest.approx(expected, rel=variant.near)


@pytest.mark.parametrize("network", ["resnet50", "ap3dnlres50"])
@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_half_precision_updates_weights_and_keeps_them_finite(name: str, network: str) -> None:
    train_step = trainer_of(_task(network), VARIANTS[name], DEVICE)
    check_updates(train_step, _batch(network))


def test_deterministic_training_is_bitwise_reproducible() -> None:
    runs = [
        losses_of(_task("resnet50"), _batch("resnet50"), VARIANTS["deterministic"], DEVICE)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_recomputed_blocks_train_the_same_in_less_memory(name: str) -> None:
    variant = VARIANTS[name]
    losses, peaks = [], []
    for recompute in (False, True):
        torch.cuda.reset_peak_memory_stats(DEVICE)
        with switched(variant):
            train_step = trainer_of(_task("c2dres50", recompute=recompute), variant, DEVICE)
            held = torch.cuda.memory_allocated(DEVICE)
            steps = train(train_step, _batch("c2dres50"), 1)
        losses.append(steps[0].terms["loss"])
        peaks.append(torch.cuda.max_memory_allocated(DEVICE) - held)
        del train_step
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert peaks[1] < peaks[0]


def test_pixels_are_normalised_as_on_a_cpu() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, -1, -1, 3)
    box = (2, 5, 3, 9)
    batch = ReidBatch(pixels, *labels(2), boxes=(None, box))
    expected = batch.to(torch.device("cpu")).images
    assert torch.equal(batch.to(DEVICE).images.cpu(), expected)
