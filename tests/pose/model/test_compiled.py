"""The compiled network against the trainable one."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ffreid.engine.modules import has_hooks
from ffreid.pose.data.batch import Inputs
from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D, Outputs
from ffreid.pose.model.rearranged import Winograd
from tests.pose.model.recipes import as_inputs, fill, raw_inputs

CPU = torch.device("cpu")
HEADS = ("segmentation", "keypoint_offsets", "centre_offsets")
SIZES = [  # classes, keypoints, batch, height, width, points, neighbours
    (22, 8, 1, 64, 96, 1024, 16),
    (2, 8, 2, 104, 136, 1111, 16),
    (5, 3, 3, 16, 48, 256, 4),
]


def calibrated(classes: int, keypoints: int, inputs: Inputs) -> FFB6D:
    """A random network whose statistics are those of a batch, as training leaves them."""
    torch.manual_seed(0)
    net = FFB6D(classes, keypoints)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # running statistics become the batch's
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
    with torch.no_grad():
        net(inputs)
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):  # of few points: some are near 0
                buffer.clamp_(min=0.3 * buffer.mean().item())
    return net.eval()


def difference(outputs: Outputs, expected: Outputs) -> float:
    """Largest difference, relative to each head's largest value."""
    worst = 0.0
    for name in HEADS:
        ours, theirs = getattr(outputs, name).double(), getattr(expected, name).double()
        assert ours.shape == theirs.shape
        worst = max(worst, ((ours - theirs).abs().max() / theirs.abs().max()).item())
    return worst


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("statistics", ["recorded recipe", "calibrated"])
def test_outputs_are_those_of_the_trainable_network(size: tuple[int, ...], statistics: str) -> None:
    classes, keypoints, batch, height, width, points, k = size
    inputs = as_inputs(raw_inputs(3, batch, height, width, points, classes, k)).to(CPU)
    if statistics == "calibrated":
        net = calibrated(classes, keypoints, inputs)
    else:
        net = FFB6D(classes, keypoints).eval()
        fill(net)
    single = CompiledFFB6D(net)(inputs)
    half = CompiledFFB6D(net, deep=torch.bfloat16)(inputs)
    exact_inputs = inputs.to(CPU, torch.float64)
    with torch.inference_mode():
        exact = net.double()(exact_inputs)
    double = CompiledFFB6D(net, dtype=torch.float64)(exact_inputs)
    assert difference(double, exact) < 1e-11
    assert difference(single, exact) < 1e-4
    if statistics == "recorded recipe":  # the other amplifies what bf16 rounds
        assert difference(half, exact) < 0.05
    assert half.segmentation.dtype == torch.float32


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (7, 13)])
def test_winograd_is_a_convolution(size: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(2, 5, *size, generator=draw, dtype=torch.double)
    weight = torch.randn(6, 5, 3, 3, generator=draw, dtype=torch.double)
    bias = torch.randn(6, generator=draw, dtype=torch.double)
    result = Winograd((weight, bias), torch.double)(image)
    expected = F.conv2d(image, weight, bias, padding=1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_frames_do_not_depend_on_those_beside_them() -> None:
    inputs = as_inputs(raw_inputs(4, 2, 32, 40, 512, 3)).to(CPU, torch.float64)
    net = FFB6D(3).double().eval()
    fill(net)
    both = CompiledFFB6D(net, dtype=torch.float64)
    second: dict[str, Any] = {
        name: tuple(level[1:] for level in value) if isinstance(value, tuple) else value[1:]
        for name, value in vars(inputs).items()
    }
    alone = both(Inputs(**second))
    for name in HEADS:
        torch.testing.assert_close(getattr(alone, name), getattr(both(inputs), name)[1:])


def test_hooks_of_any_layer_are_seen() -> None:
    net = FFB6D(2)
    assert not has_hooks(net)
    hook = net.cnn_pre_stages[0].register_forward_hook(lambda *_: None)
    assert has_hooks(net)
    hook.remove()
    assert not has_hooks(net)
