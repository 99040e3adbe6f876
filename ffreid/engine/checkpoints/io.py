"""Checkpoints: tensors, numbers and text only; written whole or not at all; loaded safely."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffreid import atomic
from ffreid.engine.checkpoints.reader import read as read
from ffreid.errors import UserError, flat


@dataclass(frozen=True)
class Saved:
    """A checkpoint's file name, and what writing it to the disk took: seconds, megabytes."""

    name: str
    seconds: float
    megabytes: float


def save(path: Path, state: Mapping[str, Any]) -> Saved:
    """Write `state` whole and on the disk, or leave `path` as it is: a killed save breaks nothing.

    Raises:
        UserError: the file cannot be written.
    """
    started = time.monotonic()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.atomic_write(path) as file:
            torch.save(dict(state), file)
        size = path.stat().st_size
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"cannot write {path}: {_reason(error)}",
            "free some space or choose another folder with --output FOLDER; "
            "earlier checkpoints are intact",
        ) from error
    return Saved(path.name, time.monotonic() - started, size / 1e6)


def _reason(error: BaseException) -> str:
    """The system's word where there is one: torch tells of a full disk by positions in the file."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__context__
    return flat(str(error))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it contains.

    Raises:
        UserError: the file is missing, unreadable, or holds more than tensors, numbers and text;
            numpy's numbers, which the authors' files hold, are such.
    """
    state = read(path)
    if not isinstance(state, dict):
        raise UserError(
            f"{path} holds a {type(state).__name__}, no checkpoint", "give a file that ffreid wrote"
        )
    return state


def load_weights(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load `state` into `module`, every key and shape as expected.

    Raises:
        UserError: listing missing, unexpected and misshapen keys by module.
    """
    compared = compare(module, state)
    if not compared.fits:
        parts = [
            f"{len(found)} {word} ({_grouped(found)})"
            for word, found in (
                ("missing", compared.missing),
                ("unexpected", compared.unexpected),
            )
            if found
        ]
        if misshapen := [f"{key} {there} for {own}" for key, there, own in compared.misshapen]:
            parts.append(f"{len(misshapen)} misshapen ({'; '.join(misshapen[:3])})")
        raise UserError(
            f"{origin} does not fit this network: {', '.join(parts)}",
            "give the checkpoint of the same task, data set and classes",
        )
    module.load_state_dict(state)


def _grouped(keys: Sequence[str]) -> str:
    groups = Counter(key.partition(".")[0] for key in keys)
    shown = [f"{name}.* {count}" for name, count in groups.most_common(4)]
    return ", ".join(shown) + (", …" if len(groups) > 4 else "")


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
