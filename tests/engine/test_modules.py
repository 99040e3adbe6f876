"""Blocks that run once more in the backward pass train as those that don't."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine import batchnorm
from ffreid.engine.modules import Recomputed

KINDS = ["plain", "grouped", "gathered", "kept"]


class Residual(nn.Module):
    """A block with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Dropout(0.3), nn.Conv2d(16, 4, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.inner(x)
        return found


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    """The same blocks in a plain and in a recomputed sequence."""
    torch.manual_seed(1)
    plain: nn.Module = nn.Sequential(*(Residual() for _ in range(3))).double()
    if kind == "grouped":
        batchnorm.group(plain, 2)
    if kind == "gathered":
        plain = batchnorm.synchronise(plain, torch.device("cpu"))
    return plain, Recomputed(*deepcopy(plain).children())


def passed(net: nn.Module, *, kept: bool = False, half: torch.dtype | None = None) -> Any:
    """Outputs, gradients and state after two training passes, and the elements that were saved."""
    torch.manual_seed(2)
    saved: list[int] = []

    def keep(value: Tensor) -> Tensor:
        saved.append(value.numel())
        return value

    kind = torch.float64 if half is None else torch.float32
    for _ in range(2):
        net.zero_grad()
        inputs = torch.randn(4, 4, 8, 8).to(kind).requires_grad_()
        with batchnorm.keep_statistics(net, kept):
            with (
                torch.autocast("cpu", half, enabled=half is not None),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
            ):
                outputs = net(inputs)
            outputs.double().square().sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    found = {"outputs": outputs.detach(), "inputs": inputs.grad, **gradients, **net.state_dict()}
    return found, sum(saved)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_statistics_and_dropout_are_those_of_a_plain_sequence(kind: str) -> None:
    plain, recomputed = pair(kind)
    expected, _ = passed(plain, kept=kind == "kept")
    found, _ = passed(recomputed, kept=kind == "kept")
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_under_autocast_too(half: torch.dtype) -> None:
    expected, found = (passed(net.float(), half=half)[0] for net in pair("grouped"))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_block_saves_nothing_but_its_input() -> None:
    plain, recomputed = pair("plain")
    inputs = 2 * 3 * 4 * 4 * 8 * 8  # that much is kept beside what hooks see
    assert passed(recomputed)[1] + inputs < passed(plain)[1] / 5


@pytest.mark.parametrize("training", [True, False])
def test_without_gradient_nothing_is_different(training: bool) -> None:
    plain, recomputed = (net.train(training) for net in pair("plain"))
    inputs = torch.randn(4, 4, 8, 8, dtype=torch.float64)
    found = []
    for net in (plain, recomputed):
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(net(inputs))
    assert torch.equal(*found)


def test_compiled_blocks_update_their_statistics_once() -> None:
    plain, recomputed = pair("grouped")
    recomputed.compile(backend="aot_eager")
    without = [m for net in (plain, recomputed) for m in net.modules() if isinstance(m, nn.Dropout)]
    for module in without:
        module.p = 0.0
    expected, found = passed(plain)[0], passed(recomputed)[0]
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)
