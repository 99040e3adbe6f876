"""Optimisers by name."""

from collections.abc import Callable, Iterable

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
