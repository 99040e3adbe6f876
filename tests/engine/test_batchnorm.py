"""Batch norm over processes is batch norm over the joined batch; groups, freezing, momentum."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
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


def trained(
    net: nn.Module,
    batch: Tensor,
    weights: Tensor,
    *,
    passes: int = 2,
    autocast: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Training passes: the last outputs and gradients, and the statistics after all."""
    for _ in range(passes):
        net.zero_grad()
        inputs = batch.clone().requires_grad_()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            outputs = net(inputs)
        (outputs.to(weights.dtype).pow(2) * weights).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
    results = {"outputs": outputs.detach(), "gradient": inputs.grad, **net.state_dict()}
    return {key: value for key, value in (results | gradients).items() if value is not None}


def large(dtype: torch.dtype) -> Tensor:
    """A joined batch whose sums of squares exceed float16."""
    return (100 * draw("unequal", "images")[0]).to(dtype)


def work(rank: int) -> dict[Any, dict[str, Tensor]]:
    """Results of this process for all cases and both half precisions."""

    def local(share: str, batch: Tensor) -> Tensor:
        return torch.split(batch, list(SHARES[share]))[rank]

    results: dict[Any, dict[str, Tensor]] = {}
    for share, axes in CASES:
        batch, weights = draw(share, axes)
        net = batchnorm.synchronise(network(axes), CPU)
        results[share, axes] = trained(net, local(share, batch), local(share, weights))
    for dtype in HALF:
        net = batchnorm.synchronise(network("images").float(), CPU)
        inputs = local("unequal", large(dtype))
        ones = torch.ones(inputs.shape)
        results[str(dtype)] = trained(net, inputs, ones, passes=1, autocast=dtype)
    return results


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[Any]]:
    results = in_processes(work, tmp_path_factory.mktemp("norm"))
    return {case: [results[rank][case] for rank in range(SIZE)] for case in results[0]}


def joined(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs and gradients of both parts of a batch."""
    results = {key: torch.cat([first[key], second[key]]) for key in ("outputs", "gradient")}
    return results | {key: first[key] + second[key] for key in PARAMETERS}


@pytest.mark.parametrize(("share", "axes"), CASES)
def test_two_processes_normalise_as_one_with_the_joined_batch(
    processes: dict[Any, list[Any]], share: str, axes: str
) -> None:
    expected = trained(network(axes), *draw(share, axes))
    for one in processes[share, axes]:
        results = joined(*processes[share, axes]) | {key: one[key] for key in STATISTICS}
        for key, value in results.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", HALF)
def test_statistics_stay_in_float32_under_autocast(
    processes: dict[Any, list[Any]], dtype: torch.dtype
) -> None:
    net = network("images")
    expected = net(large(dtype).double()).detach()
    outputs = torch.cat([one["outputs"] for one in processes[str(dtype)]])
    assert outputs.dtype == dtype
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-2, atol=1e-2)
    for one in processes[str(dtype)]:
        assert one["gradient"].dtype == dtype
        assert one["gradient"].isfinite().all()
        for key in STATISTICS[:2]:
            value = net.state_dict()[key].float()  # which checks the dtype
            torch.testing.assert_close(one[key], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", AXES)
def test_one_process_normalises_as_torch_does(axes: str) -> None:
    single = batchnorm.synchronise(network(axes), CPU)
    assert isinstance(single.get_submodule("0"), GatheredBatchNorm)
    data = draw("equal", axes)
    torch.testing.assert_close(trained(single, *data), trained(network(axes), *data))


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
    results = trained(net, *draw("equal", "clouds"))
    assert all(torch.equal(before[key], net.state_dict()[key]) for key in before)
    assert results["gradient of 0.weight"].abs().min() > 0


@pytest.mark.parametrize("axes", AXES)
def test_groups_are_normalised_separately_with_the_statistics_of_the_first(axes: str) -> None:
    grouped, single = network(axes), network(axes)
    batchnorm.group(grouped, 2)
    batch, weights = draw("equal", axes)
    results = trained(grouped, batch, weights)
    first = trained(single, batch[:3], weights[:3])
    second = trained(network(axes), batch[3:], weights[3:])
    expected = joined(first, second) | single.state_dict()
    torch.testing.assert_close({key: results[key] for key in expected}, expected)
    assert torch.equal(grouped.eval()(batch), single.eval()(batch))


def one_by_one(net: batchnorm.GroupedBatchNorm, x: Tensor) -> Tensor:
    """Plain form of a batch norm of groups: one after the other, joined."""
    first, *others = x.chunk(net.groups)
    normalised = [
        F.batch_norm(part, None, None, net.weight, net.bias, training=True) for part in others
    ]
    statistics = net.running_mean, net.running_var
    own = F.batch_norm(first, *statistics, net.weight, net.bias, training=True)
    return torch.cat([own, *normalised])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [2, 3])
def test_groups_are_bit_for_bit_those_of_one_after_the_other(
    dtype: torch.dtype, layout: torch.memory_format, groups: int
) -> None:
    draw = torch.Generator().manual_seed(3)
    batch, gradient = (
        torch.randn(6, 20, 9, 5, generator=draw).to(dtype).contiguous(memory_format=layout)
        for _ in range(2)
    )
    weight, bias = torch.randn(2, 20, generator=draw).unbind()
    results = []
    for function in (batchnorm.GroupedBatchNorm.forward, one_by_one):
        net = batchnorm.GroupedBatchNorm(20)
        net.groups = groups
        with torch.no_grad():
            net.weight.copy_(weight)
            net.bias.copy_(bias)
        inputs = batch.clone().requires_grad_()
        outputs = function(net, inputs)
        torch.autograd.backward(outputs, gradient)
        found = (outputs, inputs.grad, net.weight.grad, net.bias.grad)
        results.append([*found, net.running_mean, net.running_var])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
