"""Keys and shapes of a file's weights against a network's."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Comparison:
    """Keys of a state dict against a network's; misshapen ones with the file's and own shape."""

    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def fits(self) -> bool:
        """Whether every key and shape is as expected."""
        return not (self.missing or self.unexpected or self.misshapen)

    def rows(self) -> list[tuple[str, int, int, int, str]]:
        """Counts by module, with an example: (module, missing, unexpected, misshapen, key)."""
        parts = (self.missing, self.unexpected, [key for key, *_ in self.misshapen])
        counts = [Counter(map(module_of, keys)) for keys in parts]
        shapes = {key: f"{key} {there} for {own}" for key, there, own in self.misshapen}
        examples: dict[str, str] = {}
        for keys in parts:
            for key in keys:
                examples.setdefault(module_of(key), shapes.get(key, key))
        return [
            (name, counts[0][name], counts[1][name], counts[2][name], example)
            for name, example in examples.items()
        ]


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> Comparison:
    """Compare the keys and shapes of `state` with those of `module`."""
    own = module.state_dict()
    return Comparison(
        len(own),
        tuple(key for key in own if key not in state),
        tuple(key for key in state if key not in own),
        tuple(
            (key, tuple(state[key].shape), tuple(own[key].shape))
            for key in own
            if key in state and state[key].shape != own[key].shape
        ),
    )


def module_of(key: str) -> str:
    """Name the module that a key is reported under: its first part, with a number behind it."""
    first, _, rest = key.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if second.isdecimal() else first
