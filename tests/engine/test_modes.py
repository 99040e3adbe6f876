"""Evaluating a network leaves its modes as they were."""

import pytest
from torch import nn

from ffreid.engine.modules import evaluating


def test_modes_are_as_before_afterwards_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
    net[1].eval()
    with pytest.raises(ValueError, match="of mine"), evaluating(net):
        assert not any(module.training for module in net.modules())
        raise ValueError("of mine")
    assert [module.training for module in net.modules()] == [True, True, False]
