"""What is in a checkpoint, whoever wrote it: weights, numbers, optimisers, and what is neither."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ffreid.engine.checkpoints.keys import WHY, State, parted, reason_to_drop, role_of
from ffreid.engine.checkpoints.keys import stripped as stripped
from ffreid.errors import UserError

Number = int | float

AVERAGED_COPY = (
    "the file holds an averaged copy of the weights too, which is left out; it can be taken in "
    "their place (--weights ema)"
)
COUNTED = ("total_ops", "total_params")
"""Buffers that the profiler thop leaves in networks."""
DEEPEST = 6
"""Mappings inside each other that are looked into; a pickle can make one that holds itself."""


@dataclass(frozen=True, kw_only=True)
class CheckpointContents:
    """What a checkpoint holds.

    Attributes:
        kind: what the file is, in words.
        weights: state dicts by role: ``model``, ``ema``, ``classifier``, ``clothes``, else the
            entry's own name; without prefixes.
        prefixes: what was taken off the keys, by role, outermost first.
        numbers: entries that are one number: epoch, step, best value.
        optimisers: states of optimisers by entry.
        dropped: what is not taken over: entry, reason.
        ours: whether ffreid wrote it.
    """

    kind: str
    weights: dict[str, State] = field(default_factory=dict)
    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    optimisers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: tuple[tuple[str, str], ...] = ()
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the keys and shapes of a network of ours tell, and what no file tells.

    Attributes:
        task: ``pose`` or ``reid``.
        network: its name, for people.
        told: what is known, for people: classes, keypoints, pooling.
        settings: the same as settings, by dotted key.
        unsaid: what is not in the file, and where it comes from.
        role: of the weights, in `Recognised.weights`.
    """

    task: str
    network: str
    told: dict[str, Number | str]
    settings: dict[str, Any] = field(default_factory=dict)
    unsaid: tuple[tuple[str, str], ...] = ()
    role: str = "model"


def identify(raw: Mapping[Any, Any]) -> CheckpointContents:
    """Sort what a checkpoint holds, by content alone."""
    ours = is_ours(raw)
    found = _Sorted()
    tensors = {key: value for key, value in raw.items() if _is_weight(key, value)}
    if any(value.dim() for value in tensors.values()):
        found.take_state("model", tensors)
    else:
        tensors = {}
    for name, value in raw.items():
        if name not in tensors:
            found.sort(str(name), value)
    return CheckpointContents(
        kind=_kind(raw, bare=bool(tensors), ours=ours),
        # Copies that were averaged come last: who wants them asks for them.
        weights=dict(sorted(found.weights.items(), key=lambda item: item[0] == "ema")),
        prefixes=found.prefixes,
        numbers=found.numbers,
        optimisers=found.optimisers,
        dropped=tuple(found.dropped),
        ours=ours,
    )


def whole(found: CheckpointContents, names: Iterable[str]) -> int | None:
    """Give the first of the file's numbers of these names that can count something."""
    numbers = (found.numbers[name] for name in names if name in found.numbers)
    return next((int(value) for value in numbers if math.isfinite(value)), None)


def taking(found: CheckpointContents, role: str) -> CheckpointContents:
    """Put the weights of `role` in the place of the network's."""
    others = {name: state for name, state in found.weights.items() if name not in (role, "model")}
    return replace(found, weights={"model": found.weights[role], **others})


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Give settings by dotted key as the YAML text that checkpoints hold."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return str(yaml.safe_dump(tree))


def origin(state: Mapping[str, Any], path: Path) -> str:
    """Say in words where a checkpoint's weights come from.

    Args:
        state: the checkpoint, in our layout.
        path: its file.
    """
    was = state.get("converted")
    if was is None:
        step = f", step {state['step']}" if "step" in state else ""
        return f"{path}, trained by ffreid{step}" if is_ours(state) else f"{path}, of others"
    numbers = ", ".join(
        f"{name} {value:g}" for name, value in was.items() if isinstance(value, int | float)
    )
    file = was.get("file", path.name)
    return f"{path}, converted from {file}: {was['from']}" + (f" ({numbers})" if numbers else "")


def is_ours(raw: Mapping[Any, Any]) -> bool:
    """Whether ffreid wrote a checkpoint, or converted it."""
    return isinstance(raw.get("parts"), Mapping) and "task" in raw


def own(raw: Mapping[str, Any], origin: Path, *, task: str, network: str) -> dict[str, Any] | None:
    """Give a checkpoint that is in our layout already; None where it is not.

    Raises:
        UserError: it is of another task, and so no `network`.
    """
    if not is_ours(raw):
        return None
    if raw["task"] != task:
        raise UserError(
            f"{origin} is a checkpoint of {raw['task']}, no {network}",
            "give one of this data set's task",
        )
    return dict(raw)


def holds_no(network: str, origin: Path) -> UserError:
    """Say that a file holds no `network`."""
    return UserError(
        f"{origin} holds no {network}",
        f"give a best.pth or last.pth of a run; ffreid convert-ckpt {origin} --dry-run says "
        "what the file is",
    )


def taken_as(network: str, found: CheckpointContents, origin: Path, notes: Sequence[str]) -> str:
    """Say what a file was taken for."""
    more = f" ({len(notes)} notes: ffreid convert-ckpt --dry-run)" if notes else ""
    return f"{origin} is {found.kind}: taken as {network}{more}"


def _kind(raw: Mapping[Any, Any], *, bare: bool, ours: bool) -> str:
    if ours:
        return "a checkpoint of ffreid"
    if bare:
        return "a bare state dict"
    if "pytorch-lightning_version" in raw:
        return "a checkpoint of Lightning"
    return f"a checkpoint with {', '.join(map(str, list(raw)[:8]))}" + " …" * (len(raw) > 8)


def _is_weight(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


class _Sorted:
    """What was found so far."""

    def __init__(self) -> None:
        self.weights: dict[str, State] = {}
        self.prefixes: dict[str, tuple[str, ...]] = {}
        self.numbers: dict[str, Number] = {}
        self.optimisers: dict[str, Mapping[str, Any]] = {}
        self.dropped: list[tuple[str, str]] = []
        self.seen: set[int] = set()

    def sort(self, name: str, value: Any, depth: int = 0) -> None:
        """Put an entry where it belongs."""
        self._find_best(value)
        if (why := reason_to_drop(name)) is not None and not _is_optimiser(value):
            self.dropped.append((name, WHY[why]))
        elif (number := _number(value)) is not None:
            self.numbers[name] = number
        elif isinstance(value, Mapping):
            self._sort_mapping(name, value, depth + 1)
        elif isinstance(value, list | tuple) and any(map(_is_optimiser, value)):
            if self._is_new(name, value):
                for index, item in enumerate(value):
                    self.sort(f"{name}.{index}", item, depth + 1)
        else:
            why = "text" if isinstance(value, str) else "empty" if value is None else "other"
            self.dropped.append((name, WHY[why]))

    def _is_new(self, name: str, container: object) -> bool:
        """Whether it is the first time; a small file may hold one container millions of times."""
        if id(container) in self.seen:
            self.dropped.append((name, WHY["again"]))
            return False
        self.seen.add(id(container))
        return True

    def _find_best(self, callbacks: Any) -> None:
        """Take the best value that Lightning keeps among its callbacks."""
        for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
            best = state.get("best_model_score") if isinstance(state, Mapping) else None
            if (number := _number(best)) is not None:
                self.numbers["best_model_score"] = number

    def _sort_mapping(self, name: str, value: Mapping[Any, Any], depth: int) -> None:
        if _is_optimiser(value):
            self.optimisers[name] = value
        elif any(str(key).startswith("loss_scaler") for key in value):
            self.dropped.append((name, WHY["amp"]))
        elif value and not self._is_new(name, value):
            pass
        elif tensors := {key: item for key, item in value.items() if _is_weight(key, item)}:
            self.take_state(role_of(name), tensors)
            self._rest(name, value, tensors, depth)
        elif not value or depth > DEEPEST:
            self.dropped.append((name, WHY["deep" if value else "empty"]))
        else:
            self._rest(name, value, {}, depth)

    def _rest(self, name: str, value: Mapping[Any, Any], known: Iterable[str], depth: int) -> None:
        for key, item in value.items():
            if key not in known:
                self.sort(f"{name}.{key}", item, depth)

    def take_state(self, role: str, state: Mapping[str, Tensor]) -> None:
        """Take a state dict, without its prefixes; several networks in one are taken apart."""
        counted = [key for key in state if key.rpartition(".")[2] in COUNTED]
        if counted:
            self.dropped.append((f"{len(counted)} x {counted[0]}", "counts of the profiler thop"))
        plain, prefixes = stripped({k: v for k, v in state.items() if k not in counted})
        groups = parted(plain)
        for name, group in groups.items():
            inner, more = stripped(group)
            self._put(role if name in ("", "model") else name, inner, (*prefixes, *more))

    def _put(self, role: str, state: State, prefixes: tuple[str, ...]) -> None:
        if not any(value.dim() for value in state.values()):
            self.numbers |= {key: value.item() for key, value in state.items()}
            return
        while role in self.weights:
            role += "'"
        # Without gradients: a state dict may be made of parameters.
        self.weights[role] = {
            key: value.detach() if value.requires_grad else value for key, value in state.items()
        }
        if prefixes:
            self.prefixes[role] = prefixes


def _is_optimiser(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("state"), Mapping)
        and isinstance(value.get("param_groups"), list)
    )


def _number(value: Any) -> Number | None:
    if isinstance(value, np.generic | Tensor):
        if isinstance(value, Tensor) and value.dim():
            return None
        value = value.item()
    return value if isinstance(value, int | float) else None
