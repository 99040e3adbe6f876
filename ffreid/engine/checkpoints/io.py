"""Writing checkpoints atomically, loading them safely, and comparing them with a network."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffreid import atomic
from ffreid.engine.checkpoints import schema
from ffreid.engine.checkpoints.contents import is_ffreid
from ffreid.engine.checkpoints.reader import read as read
from ffreid.errors import UserError, flat


@dataclass(frozen=True)
class Saved:
    """A checkpoint's file name, and the seconds and megabytes that saving it took."""

    name: str
    seconds: float
    megabytes: float


def save(path: Path, state: Mapping[str, Any]) -> Saved:
    """Write `state` to the disk atomically: a killed save leaves the earlier file."""
    started = time.monotonic()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.atomic_write(path) as file:
            torch.save(dict(state), file)
        size = path.stat().st_size
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"cannot write {path}: {_reason(error)}",
            "free disk space or use another folder with --output FOLDER; "
            "earlier checkpoints are intact",
        ) from error
    return Saved(path.name, time.monotonic() - started, size / 1e6)


def _reason(error: BaseException) -> str:
    """Return the system's reason if there is one: torch reports a full disk by file positions."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    return flat(str(error))


def load(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Load a checkpoint; nothing in it is run without `trust`.

    Raises:
        UserError: the file is missing, unreadable, holds more than tensors, numbers (numpy's too)
            and text, or is of ffreid and does not follow its `schema`.
    """
    state = read(path, trust=trust)
    if isinstance(state, nn.Module):  # a pickled module, and trusted
        return {"state_dict": state.state_dict()}
    if not isinstance(state, Mapping):
        raise UserError(
            f"{path} contains a {type(state).__name__}, not a checkpoint",
            "use a file with a state dict, such as best.pth of a run",
        )
    if is_ffreid(state):
        schema.check(state, path)
    return dict(state)


class DoesNotFit(UserError):
    """The content of a checkpoint is not of the network or optimiser that is to load it."""


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    origin: str,
    hint: str = "use a checkpoint of the same task, dataset and classes",
) -> None:
    """Load `state` into `module`; every key and shape must match.

    Raises:
        DoesNotFit: listing missing, unexpected and mismatched keys by module.
    """
    if problems := compare(module, state).problems():
        raise DoesNotFit(
            f"{origin} does not match this network: {problems}",
            hint,
        )
    module.load_state_dict(state)


@dataclass(frozen=True)
class Comparison:
    """Keys of a state dict against a network's `total`; of mismatched ones, both shapes as text."""

    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, str]

    def problems(self) -> str:
        """Describe what does not match, by module; empty if every key and shape does."""
        problems = []
        for kind, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            groups = Counter(key.partition(".")[0] for key in keys)
            first = [f"{name}.* {count}" for name, count in groups.most_common(4)]
            first += ["…"] * (len(groups) > 4)
            problems += [f"{len(keys)} {kind} ({', '.join(first)})"] if keys else []
        if shapes := list(self.mismatched.values()):
            problems.append(f"{len(shapes)} of wrong shape ({'; '.join(shapes[:3])})")
        return ", ".join(problems)

    def rows(self) -> list[tuple[str, int, int, int, str]]:
        """Counts by module, with an example: (module, missing, unexpected, mismatched, key)."""
        kinds = (self.missing, self.unexpected, tuple(self.mismatched))
        missing, unexpected, mismatched = (Counter(map(module_of, keys)) for keys in kinds)
        examples: dict[str, str] = {}
        for key in chain(*kinds):
            examples.setdefault(module_of(key), self.mismatched.get(key, key))
        return [
            (name, missing[name], unexpected[name], mismatched[name], example)
            for name, example in examples.items()
        ]


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> Comparison:
    """Compare the keys and shapes of `state` with those of `module`."""
    expected = module.state_dict()
    return Comparison(
        len(expected),
        tuple(key for key in expected if key not in state),
        tuple(key for key in state if key not in expected),
        {
            key: f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        },
    )


def module_of(key: str) -> str:
    """Name the module that a key is reported under: its first component, and a number after it."""
    first, _, rest = key.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if second.isdecimal() else first
