"""Optimisers by name, fused or not."""

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.optim import OPTIMISERS, load_state, make


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


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("fused", [False, True])
def test_states_of_another_memory_format_continue_alike(name: str, fused: bool) -> None:
    last = torch.channels_last
    start, gradient = torch.randn(2, 4, 3, 3, 3, dtype=torch.float64).unbind()

    def parameter(values: Tensor, memory_format: torch.memory_format) -> nn.Parameter:
        made = nn.Parameter(values.clone(memory_format=memory_format))
        made.grad = gradient.clone(memory_format=memory_format)
        return made

    ends = []
    for first in (last, torch.contiguous_format):
        one = parameter(start, first)
        optimiser = make(name, [one], lr=0.1, weight_decay=0.01)
        optimiser.step()
        other = parameter(one.detach(), last)
        continued = make(name, [other], lr=0.1, weight_decay=0.01, fused=fused)
        state = optimiser.state_dict()
        state["param_groups"][0]["fused"] = fused or None
        load_state(continued, state)
        continued.step()
        ends.append(other.detach())
    torch.testing.assert_close(*ends)
    assert not torch.equal(ends[0], start)
