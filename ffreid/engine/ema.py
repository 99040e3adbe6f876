"""Exponential moving average of weights and batch-norm statistics."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """``average = decay average + (1 - decay) value`` after every step (Polyak averaging).

    Integers (batch norm's count) are copied. torch's own AveragedModel would keep a second copy
    of the modules and give other checkpoint keys.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = dict(modules), decay
        self.averages = {key: value.clone() for key, value in self.current().items()}

    def current(self) -> dict[str, Tensor]:
        """The modules' parameters and buffers, each once, even if it has several names."""
        current: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            current |= {f"{name}.{key}": value.data for key, value in module.named_parameters()}
            current |= {f"{name}.{key}": value for key, value in module.named_buffers()}
        return current

    @torch.no_grad()
    def update(self) -> None:
        """Add the modules' current values."""
        current = self.current()
        floating = [key for key in current if current[key].is_floating_point()]
        torch._foreach_lerp_(
            [self.averages[key] for key in floating],
            [current[key] for key in floating],
            1 - self.decay,
        )
        for key in current.keys() - set(floating):
            self.averages[key].copy_(current[key])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the modules for the block."""
        current = self.current()
        saved = {key: value.clone() for key, value in current.items()}
        self._copy(self.averages, current)
        try:
            yield
        finally:
            self._copy(saved, current)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, by module and name."""
        return self.averages

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned."""
        self._copy(state, self.averages)

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for key, value in target.items():
            value.copy_(source[key])
