"""The optimisers by name."""

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": lambda parameters, **settings: SGD(parameters, momentum=0.9, nesterov=True, **settings),
}
"""They take parameters, `lr`, `weight_decay` and `fused`."""


def make(
    name: str, parameters: Iterable[Tensor], *, lr: float, weight_decay: float, fused: bool = False
) -> Optimizer:
    """Make an optimiser.

    Args:
        name: in `OPTIMISERS`.
        parameters: what it steps; on a CPU or a GPU, which both have fused kernels.
        lr: learning rate, until a schedule sets it.
        weight_decay: added to the gradients; decoupled from them by ``adamw``.
        fused: step all parameters in one kernel: faster, the same numbers up to rounding.
    """
    # None leaves the choice among the other implementations to torch.
    return OPTIMISERS[name](parameters, lr=lr, weight_decay=weight_decay, fused=fused or None)
