"""Channels last changes where weights lie, and nothing else."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from ffreid.engine.modules import channels_last

NETWORKS = {
    "picture": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 2)),
        (2, 3, 9, 7),
    ),
    "clip": (nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.ReLU()), (2, 3, 4, 9, 7)),
    "points": (nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)), (2, 3, 9)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_state_are_the_same(name: str) -> None:
    network, shape = NETWORKS[name]
    plain, laid = (deepcopy(network).double() for _ in range(2))
    channels_last(laid)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for net in (plain, laid):
        net(inputs).square().sum().backward()
    torch.testing.assert_close(laid(inputs), plain(inputs), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(laid.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dict(laid.state_dict()), dict(plain.state_dict()))


def test_weights_of_pictures_and_clips_lie_with_channels_last_and_stay_the_same_parameters() -> (
    None
):
    for name, layout in (("picture", torch.channels_last), ("clip", torch.channels_last_3d)):
        net = deepcopy(NETWORKS[name][0])
        before = list(net.parameters())
        channels_last(net)
        assert net.get_parameter("0.weight").is_contiguous(memory_format=layout)
        assert not net.get_parameter("0.weight").is_contiguous()
        assert all(a is b for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["picture", "clip"])
@pytest.mark.parametrize("into_laid", [True, False])
def test_checkpoints_fit_in_both_directions(name: str, into_laid: bool) -> None:
    source, target = (deepcopy(NETWORKS[name][0]) for _ in range(2))
    channels_last(target if into_laid else source)
    with torch.no_grad():
        target.get_parameter("0.weight").zero_()
    stride = target.get_parameter("0.weight").stride()
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.get_parameter("0.weight"), source.get_parameter("0.weight"))
    assert target.get_parameter("0.weight").stride() == stride
