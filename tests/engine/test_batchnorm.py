"""Batch norm over processes is batch norm over the joined batch; groups, freezing, momentum."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine import batchnorm
from ffreid.engine.batchnorm import GatheredBatchNorm
from tests.engine.processes import SIZE, in_processes

CPU, CHANNELS = torch.device("cpu"), 5
# Samples of the two processes, and the axes that follow (B, C).
SHARES = {"equal": (3, 3), "unequal": (5, 2), "one sample": (1, 6)}
AXES = {"vectors": (), "clouds": (7,), "images": (4, 3)}
CASES = [(share, axes) for share in SHARES for axes in AXES]
HALF = [torch.bfloat16, torch.float16]
STATISTICS = ("0.running_mean", "0.running_var", "0.num_batches_tracked")
PARAMETERS = ("gradient of 0.weight", "gradient of 0.bias")


def network(axes: str) -> nn.Module:
    """A batch norm with random parameters and statistics, in float64."""
    generator = torch.Generator().manual_seed(1)
    kind = nn.BatchNorm2d if axes == "images" else nn.BatchNorm1d
    layer = kind(CHANNELS, eps=1e-3, momentum=0.3).double()
    assert layer.running_mean is not None
    with torch.no_grad():
        for values in (layer.weight, layer.bias, layer.running_mean):
            values.copy_(torch.randn(CHANNELS, generator=generator))
    return nn.Sequential(layer)


def draw(share: str, axes: str) -> tuple[Tensor, Tensor]:
    """The joined batch and the weights of its outputs in the loss."""
    generator = torch.Generator().manual_seed(2)
    shape = (sum(SHARES[share]), CHANNELS, *AXES[axes])
    batch = 3 + 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
    return batch, torch.randn(shape, dtype=torch.float64, generator=generator)


def trained(net: nn.Module, batch: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Two training passes: the last outputs and gradients, and the statistics after both."""
    for _ in range(2):
        net.zero_grad()
        inputs = batch.clone().requires_grad_()
        outputs = net(inputs)
        (outputs.pow(2) * weights).sum().backward()
    assert inputs.grad is not None
    gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
    found = {"outputs": outputs.detach(), "gradient": inputs.grad, **net.state_dict(), **gradients}
    return {key: value for key, value in found.items() if value is not None}


def large(dtype: torch.dtype) -> Tensor:
    """A joined batch whose sums of squares exceed float16."""
    return (100 * draw("unequal", "images")[0]).to(dtype)


def share_of(rank: int, share: str) -> slice:
    return slice(0, SHARES[share][0]) if rank == 0 else slice(SHARES[share][0], None)


def work(rank: int) -> dict[Any, dict[str, Tensor]]:
    found = {}
    for share, axes in CASES:
        batch, weights = draw(share, axes)
        mine = share_of(rank, share)
        net = batchnorm.synchronise(network(axes), CPU)
        found[share, axes] = trained(net, batch[mine], weights[mine])
    return found | {str(dtype): under_autocast(rank, dtype) for dtype in HALF}


def under_autocast(rank: int, dtype: torch.dtype) -> dict[str, Tensor]:
    net = batchnorm.synchronise(network("images").float(), CPU)
    inputs = large(dtype)[share_of(rank, "unequal")].requires_grad_()
    with torch.autocast("cpu", dtype):
        outputs = net(inputs)
    outputs.float().pow(2).sum().backward()
    assert inputs.grad is not None
    return {"outputs": outputs.detach(), "gradient": inputs.grad, **net.state_dict()}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[Any]]:
    found = in_processes(work, tmp_path_factory.mktemp("norm"))
    return {case: [found[rank][case] for rank in range(SIZE)] for case in found[0]}


@pytest.mark.parametrize(("share", "axes"), CASES)
def test_two_processes_normalise_as_one_with_the_joined_batch(
    processes: dict[Any, list[Any]], share: str, axes: str
) -> None:
    first, second = processes[share, axes]
    joined = trained(network(axes), *draw(share, axes))
    found = {key: torch.cat([first[key], second[key]]) for key in ("outputs", "gradient")}
    found |= {key: first[key] + second[key] for key in PARAMETERS}
    for statistics in (first, second):
        for key, value in (found | {key: statistics[key] for key in STATISTICS}).items():
            torch.testing.assert_close(value, joined[key], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", HALF)
def test_statistics_stay_in_float32_under_autocast(
    processes: dict[Any, list[Any]], dtype: torch.dtype
) -> None:
    joined = network("images")
    expected = joined(large(dtype).double()).detach()
    found = processes[str(dtype)]
    outputs = torch.cat([mine["outputs"] for mine in found])
    assert outputs.dtype == dtype
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-2, atol=1e-2)
    for mine in found:
        assert mine["gradient"].dtype == dtype
        assert mine["gradient"].isfinite().all()
        for key in STATISTICS[:2]:
            assert mine[key].dtype == torch.float32
            value = joined.state_dict()[key]
            torch.testing.assert_close(mine[key].double(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", AXES)
def test_one_process_normalises_as_torch_does(axes: str) -> None:
    alone = batchnorm.synchronise(network(axes), CPU)
    assert isinstance(alone.get_submodule("0"), GatheredBatchNorm)
    data = draw("equal", axes)
    torch.testing.assert_close(trained(alone, *data), trained(network(axes), *data))


def test_synchronising_keeps_parameters_settings_and_mode() -> None:
    net = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3, eps=0.1, momentum=0.7)), nn.Linear(3, 3))
    net[0].eval()
    before, state = list(net.parameters()), deepcopy(net.state_dict())
    after = batchnorm.synchronise(net, CPU)
    layer = after.get_submodule("0.0")
    assert isinstance(layer, GatheredBatchNorm)
    assert (layer.eps, layer.momentum, layer.training) == (0.1, 0.7, False)
    assert all(a is b for a, b in zip(before, after.parameters(), strict=True))
    torch.testing.assert_close(dict(after.state_dict()), dict(state))


def test_frozen_statistics_stay_and_parameters_train() -> None:
    net = network("clouds").train()
    batchnorm.freeze(net)
    before = deepcopy(net.state_dict())
    found = trained(net, *draw("equal", "clouds"))
    assert all(torch.equal(before[key], net.state_dict()[key]) for key in before)
    assert found["gradient of 0.weight"].abs().min() > 0


def test_momentum_is_set_in_every_batch_norm() -> None:
    layers = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), GatheredBatchNorm(2)]
    batchnorm.set_momentum(nn.Sequential(layers[0], nn.Sequential(*layers[1:])), 0.25)
    assert [layer.momentum for layer in layers] == [0.25] * 3


@pytest.mark.parametrize("axes", AXES)
def test_groups_are_normalised_separately_with_the_statistics_of_the_first(axes: str) -> None:
    grouped, alone = network(axes), network(axes)
    batchnorm.group(grouped, 2)
    batch, weights = draw("equal", axes)
    found = trained(grouped, batch, weights)
    first = trained(alone, batch[:3], weights[:3])
    second = trained(network(axes), batch[3:], weights[3:])
    expected = {key: torch.cat([first[key], second[key]]) for key in ("outputs", "gradient")}
    expected |= {key: first[key] + second[key] for key in PARAMETERS} | alone.state_dict()
    torch.testing.assert_close({key: found[key] for key in expected}, expected)


def test_groups_make_no_difference_in_evaluation() -> None:
    grouped, alone = network("clouds").eval(), network("clouds").eval()
    batchnorm.group(grouped, 3)
    batch, _ = draw("equal", "clouds")
    assert torch.equal(grouped(batch), alone(batch))
