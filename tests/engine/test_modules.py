"""Activation checkpointing and memory formats train as ordinary modules do; modes are restored."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine import batchnorm
from ffreid.engine.modules import Recomputed, channels_last, evaluating


class Residual(nn.Module):
    """A block with batch norm and dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Conv2d(16, 4, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.inner(x)
        return output


def pair(kind: str = "ordinary", dropout: float = 0.3) -> tuple[nn.Module, nn.Module]:
    """The same blocks in nn.Sequential and in Recomputed."""
    torch.manual_seed(1)
    blocks: nn.Module = nn.Sequential(*(Residual(dropout) for _ in range(3))).double()
    if kind == "grouped":
        batchnorm.group(blocks, 2)
    if kind == "gathered":
        blocks = batchnorm.synchronise(blocks, torch.device("cpu"))
    return blocks, Recomputed(*deepcopy(blocks).children())


def trained(net: nn.Module, *, keep: bool = False, autocast: torch.dtype | None = None) -> Any:
    """Outputs, gradients and state after two passes, and the number of saved elements."""
    torch.manual_seed(2)
    saved: list[int] = []

    def save(value: Tensor) -> Tensor:
        saved.append(value.numel())
        return value

    dtype = torch.float64 if autocast is None else torch.float32
    for _ in range(2):
        net.zero_grad()
        inputs = torch.randn(4, 4, 8, 8).to(dtype).requires_grad_()
        with batchnorm.keep_statistics(net, keep):
            with (
                torch.autocast("cpu", autocast, enabled=autocast is not None),
                torch.autograd.graph.saved_tensors_hooks(save, lambda value: value),
            ):
                outputs = net(inputs)
            outputs.double().square().sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
    result = {"outputs": outputs.detach(), "inputs": inputs.grad, **gradients, **net.state_dict()}
    return result, sum(saved)


@pytest.mark.parametrize(
    ("kind", "autocast"),
    [
        *((kind, None) for kind in ("ordinary", "grouped", "gathered", "keep")),
        ("grouped", torch.bfloat16),
        ("grouped", torch.float16),
    ],
)
def test_recomputed_blocks_train_as_ordinary_ones(kind: str, autocast: torch.dtype | None) -> None:
    nets = [net if autocast is None else net.float() for net in pair(kind)]
    expected, result = (trained(net, keep=kind == "keep", autocast=autocast)[0] for net in nets)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_compiled_blocks_update_their_statistics_once() -> None:
    ordinary, recomputed = pair("grouped", dropout=0.0)
    recomputed.compile(backend="aot_eager")
    expected, result = trained(ordinary)[0], trained(recomputed)[0]
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


def test_a_recomputed_block_saves_only_its_input() -> None:
    ordinary, recomputed = pair()
    inputs = 2 * 3 * 4 * 4 * 8 * 8  # not counted by the hooks
    assert trained(recomputed)[1] + inputs < trained(ordinary)[1] / 5


@pytest.mark.parametrize("training", [True, False])
def test_outputs_without_gradient_are_equal(training: bool) -> None:
    inputs = torch.randn(4, 4, 8, 8, dtype=torch.float64)
    outputs = []
    for net in pair():
        torch.manual_seed(3)
        with torch.no_grad():
            outputs.append(net.train(training)(inputs))
    assert torch.equal(*outputs)


NETWORKS = {
    "image": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (2, 3, 9, 7)),
    "clip": (nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.ReLU()), (2, 3, 4, 9, 7)),
    "points": (nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)), (2, 3, 9)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_changes_no_output_gradient_or_state(name: str) -> None:
    network, shape = NETWORKS[name]
    contiguous, last = (deepcopy(network).double() for _ in range(2))
    before = list(last.parameters())
    channels_last(last)
    assert all(a is b for a, b in zip(before, last.parameters(), strict=True))
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for net in (last, contiguous):
        net(inputs).square().sum().backward()
        results.append(
            [net(inputs), *(p.grad for p in net.parameters()), *net.state_dict().values()]
        )
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_modes_are_restored_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
    net[1].eval()
    with pytest.raises(ValueError, match="of mine"), evaluating(net):
        assert not any(module.training for module in net.modules())
        raise ValueError("of mine")
    assert [module.training for module in net.modules()] == [True, True, False]
