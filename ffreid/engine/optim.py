"""Optimisers by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": lambda parameters, **settings: SGD(parameters, momentum=0.9, nesterov=True, **settings),
}
"""By the values of TRAIN.OPTIMIZER.NAME."""


def make(
    name: str, parameters: Iterable[Tensor], *, lr: float, weight_decay: float, fused: bool = False
) -> Optimizer:
    """Build an optimiser; `weight_decay` is decoupled from the gradients by adamw only."""
    # None leaves the choice among the other implementations to torch.
    return OPTIMISERS[name](parameters, lr=lr, weight_decay=weight_decay, fused=fused or None)


def load_state(optimiser: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state dict, and store the averages in the memory format of their parameters.

    Fused kernels on a CPU combine both in the order of memory, whatever their formats.
    """
    optimiser.load_state_dict(dict(state))
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
