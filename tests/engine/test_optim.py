"""Optimisers by name, fused or not."""

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.optim import OPTIMISERS, make


def trained(name: str, *, fused: bool) -> list[Tensor]:
    """Parameters after three steps in double precision."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(torch.float64)
    inputs = torch.randn(5, 3, dtype=torch.float64)
    optimiser = make(name, net.parameters(), lr=0.1, weight_decay=0.01, fused=fused)
    for _ in range(3):
        optimiser.zero_grad()
        net(inputs).square().sum().backward()
        optimiser.step()
    return [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_fused_kernels_give_the_same_numbers(name: str) -> None:
    torch.testing.assert_close(
        trained(name, fused=True), trained(name, fused=False), rtol=1e-12, atol=1e-12
    )
