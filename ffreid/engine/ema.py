"""An exponential moving average of weights and batch-norm statistics, kept beside them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """``average = decay average + (1 - decay) value`` after every step (Polyak averaging).

    Whole numbers (batch norm's count) are the latest.

    Args:
        modules: what is averaged, by name; without wrappers.
        decay: share of the average that stays, in (0, 1).
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = dict(modules), decay
        self.averages = {key: value.clone() for key, value in self._own().items()}

    def _own(self) -> dict[str, Tensor]:
        """Every parameter and buffer once, however many names it has."""
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            found |= {f"{name}.{key}": value.data for key, value in module.named_parameters()}
            found |= {f"{name}.{key}": value for key, value in module.named_buffers()}
        return found

    @torch.no_grad()
    def update(self) -> None:
        """Take the modules' present state in."""
        own = self._own()
        floating = [key for key in own if own[key].is_floating_point()]
        torch._foreach_lerp_(
            [self.averages[key] for key in floating],
            [own[key] for key in floating],
            1 - self.decay,
        )
        self._copy(own, self.averages, own.keys() - set(floating))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in place of the modules' state for the block."""
        own = self._own()
        kept = {key: value.clone() for key, value in own.items()}
        self._copy(self.averages, own, own)
        try:
            yield
        finally:
            self._copy(kept, own, own)

    def restart(self) -> None:
        """Begin anew with the modules' present state."""
        self._copy(self._own(), self.averages, self.averages)

    def state_dict(self) -> dict[str, Tensor]:
        """Give the averages, by module and name."""
        return self.averages

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self._copy(state, self.averages, self.averages)

    @torch.no_grad()
    def _copy(
        self, source: Mapping[str, Tensor], target: Mapping[str, Tensor], keys: Iterable[str]
    ) -> None:
        for key in keys:
            target[key].copy_(source[key])
