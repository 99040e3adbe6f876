"""Batch norm over processes is batch norm over the joined batch."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine import batchnorm
from ffreid.engine.batchnorm import GatheredBatchNorm
from tests.engine.processes import SIZE, in_processes

CHANNELS = 5
# Samples of the two processes, and the axes that follow (B, C).
SHARES = {"equal": (3, 3), "unequal": (5, 2), "one sample": (1, 6)}
AXES = {"vectors": (), "clouds": (7,), "pictures": (4, 3)}
CASES = [(share, axes) for share in SHARES for axes in AXES]
HALF = [torch.bfloat16, torch.float16]
EXACT = 1e-10


def network(kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> nn.Module:
    """A batch norm with parameters and statistics of its own, in float64."""
    generator = torch.Generator().manual_seed(1)
    layer = kind(CHANNELS, eps=1e-3, momentum=0.3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CHANNELS, generator=generator))
        layer.bias.copy_(torch.randn(CHANNELS, generator=generator))
        assert layer.running_mean is not None
        layer.running_mean.copy_(torch.randn(CHANNELS, generator=generator))
    return nn.Sequential(layer)


def plain(axes: str) -> nn.Module:
    return network(nn.BatchNorm2d if axes == "pictures" else nn.BatchNorm1d)


def draw(share: str, axes: str) -> tuple[Tensor, Tensor]:
    """The joined batch and the weights of its outputs in the loss."""
    generator = torch.Generator().manual_seed(2)
    shape = (sum(SHARES[share]), CHANNELS, *AXES[axes])
    batch = 3 + 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
    return batch, torch.randn(shape, dtype=torch.float64, generator=generator)


def passed(net: nn.Module, batch: Tensor, weights: Tensor) -> dict[str, Tensor]:
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


def large(kind: torch.dtype) -> Tensor:
    """A joined batch whose sums of squares are beyond float16."""
    return (100 * draw("unequal", "pictures")[0]).to(kind)


def share_of(rank: int, share: str) -> slice:
    return slice(0, SHARES[share][0]) if rank == 0 else slice(SHARES[share][0], None)


def work(rank: int) -> dict[Any, dict[str, Tensor]]:
    found = {}
    for share, axes in CASES:
        net = batchnorm.synchronise(plain(axes), torch.device("cpu"))
        batch, weights = draw(share, axes)
        mine = share_of(rank, share)
        found[share, axes] = passed(net, batch[mine], weights[mine])
    return found | {str(kind): autocast(rank, kind) for kind in HALF}


def autocast(rank: int, kind: torch.dtype) -> dict[str, Tensor]:
    """One training pass in an autocast region."""
    net = batchnorm.synchronise(plain("pictures").float(), torch.device("cpu"))
    inputs = large(kind)[share_of(rank, "unequal")].requires_grad_()
    with torch.autocast("cpu", kind):
        outputs = net(inputs)
    outputs.float().pow(2).sum().backward()
    assert inputs.grad is not None
    return {"outputs": outputs.detach(), "gradient": inputs.grad, **net.state_dict()}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[Any]]:
    found = in_processes(work, tmp_path_factory.mktemp("norm"))
    return {case: [found[rank][case] for rank in range(SIZE)] for case in found[0]}


@pytest.mark.parametrize(("share", "axes"), CASES)
def test_shares_of_a_batch_are_normalised_as_the_whole(
    processes: dict[Any, list[Any]], share: str, axes: str
) -> None:
    first, second = processes[share, axes]
    whole = passed(plain(axes), *draw(share, axes))
    for key in ("outputs", "gradient"):
        process_group = torch.cat([first[key], second[key]])
        torch.testing.assert_close(process_group, whole[key], rtol=EXACT, atol=EXACT)
    for key in ("gradient of 0.weight", "gradient of 0.bias"):
        torch.testing.assert_close(first[key] + second[key], whole[key], rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("share", "axes"), CASES)
def test_every_process_keeps_the_statistics_of_the_whole(
    processes: dict[Any, list[Any]], share: str, axes: str
) -> None:
    whole = passed(plain(axes), *draw(share, axes))
    for mine in processes[share, axes]:
        for key in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
            torch.testing.assert_close(mine[key], whole[key], rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("kind", HALF)
def test_autocast_leaves_the_statistics_wide(
    processes: dict[Any, list[Any]], kind: torch.dtype
) -> None:
    whole = plain("pictures")
    expected = whole(large(kind).double()).detach()
    found = processes[str(kind)]
    outputs = torch.cat([mine["outputs"] for mine in found])
    assert outputs.dtype == kind
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-2, atol=1e-2)
    for mine in found:
        assert mine["gradient"].dtype == kind
        assert mine["gradient"].isfinite().all()
        for key in ("0.running_mean", "0.running_var"):
            assert mine[key].dtype == torch.float32
            torch.testing.assert_close(
                mine[key].double(), whole.state_dict()[key], rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("axes", AXES)
def test_a_process_alone_normalises_as_torch_does(axes: str) -> None:
    alone = batchnorm.synchronise(plain(axes), torch.device("cpu"))
    assert isinstance(alone.get_submodule("0"), GatheredBatchNorm)
    torch.testing.assert_close(
        passed(alone, *draw("equal", axes)), passed(plain(axes), *draw("equal", axes))
    )


def test_synchronising_keeps_parameters_settings_and_mode() -> None:
    net = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3, eps=0.1, momentum=0.7)), nn.Linear(3, 3))
    net[0].eval()
    before, state = list(net.parameters()), deepcopy(net.state_dict())
    after = batchnorm.synchronise(net, torch.device("cpu"))
    layer = after.get_submodule("0.0")
    assert isinstance(layer, GatheredBatchNorm)
    assert (layer.eps, layer.momentum, layer.training) == (0.1, 0.7, False)
    assert all(a is b for a, b in zip(before, after.parameters(), strict=True))
    torch.testing.assert_close(dict(after.state_dict()), dict(state))


def test_frozen_statistics_stay_and_the_parameters_train() -> None:
    net = plain("clouds").train()
    batchnorm.freeze(net)
    before = deepcopy(net.state_dict())
    found = passed(net, *draw("equal", "clouds"))
    for key in before:
        assert torch.equal(before[key], net.state_dict()[key])
    assert found["gradient of 0.weight"].abs().min() > 0


def test_momentum_is_set_in_every_batch_norm() -> None:
    layers = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), GatheredBatchNorm(2)]
    batchnorm.set_momentum(nn.Sequential(layers[0], nn.Sequential(*layers[1:])), 0.25)
    assert [layer.momentum for layer in layers] == [0.25] * 3


@pytest.mark.parametrize("axes", AXES)
def test_groups_are_normalised_each_alone_and_statistics_follow_the_first(axes: str) -> None:
    grouped, alone = plain(axes), plain(axes)
    batchnorm.group(grouped, 2)
    batch, weights = draw("equal", axes)
    whole = passed(grouped, batch, weights)
    first = passed(alone, batch[:3], weights[:3])
    second = passed(plain(axes), batch[3:], weights[3:])
    for key in ("outputs", "gradient"):
        torch.testing.assert_close(whole[key], torch.cat([first[key], second[key]]))
    for key in ("gradient of 0.weight", "gradient of 0.bias"):
        torch.testing.assert_close(whole[key], first[key] + second[key])
    torch.testing.assert_close(
        {key: whole[key] for key in alone.state_dict()}, dict(alone.state_dict())
    )


def test_groups_make_no_difference_in_evaluation() -> None:
    grouped, alone = plain("clouds").eval(), plain("clouds").eval()
    batchnorm.group(grouped, 3)
    batch, _ = draw("equal", "clouds")
    assert torch.equal(grouped(batch), alone(batch))
