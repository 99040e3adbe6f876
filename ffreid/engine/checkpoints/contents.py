"""What a checkpoint of any program holds: weights, numbers, optimisers, and what is dropped."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ffreid.engine.checkpoints.keys import (
    REASONS,
    State,
    reason_to_drop,
    role_of,
    split_networks,
    strip_prefixes,
)
from ffreid.errors import UserError

Number = int | float

EMA_NOTE = "the file also holds EMA weights, which are dropped; --weights ema takes them instead"
PROFILER_BUFFERS = ("total_ops", "total_params")
"""Buffers that the profiler thop leaves in networks."""
MAX_DEPTH = 6
"""Nested mappings that are searched; a pickle can create one that contains itself."""


@dataclass(kw_only=True)
class CheckpointContents:
    """What a checkpoint holds.

    Attributes:
        kind: what the file is, as text.
        weights: state dicts by role: ``model``, ``ema``, ``classifier``, ``clothes``, else the
            entry's name; without prefixes; ``ema`` is the last.
        prefixes: what was removed from the keys, by role, outermost first.
        numbers: entries that are one number: epoch, step, best value.
        optimisers: states of optimisers by entry.
        dropped: entries that are not converted, with the reason.
        is_ffreid: whether ffreid wrote it.
    """

    kind: str = ""
    weights: dict[str, State] = field(default_factory=dict)
    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    optimisers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    is_ffreid: bool = False

    def first_count(self, names: Iterable[str]) -> int | None:
        """Return the first finite number of these names as an int; None if there is none."""
        values = (self.numbers[name] for name in names if name in self.numbers)
        return next((int(value) for value in values if math.isfinite(value)), None)

    def with_weights(self, role: str) -> "CheckpointContents":
        """Use the weights of `role` as the network's."""
        rest = {name: s for name, s in self.weights.items() if name not in (role, "model")}
        return replace(self, weights={"model": self.weights[role], **rest})


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What keys and shapes tell about a network.

    Attributes:
        task: ``pose`` or ``reid``.
        name: of the network.
        facts: for display: classes, keypoints, pooling.
        settings: the configuration that follows from the file, by dotted key.
        unknown: settings that the file does not determine, and what does.
        role: of its weights in `CheckpointContents.weights`.
    """

    task: str
    name: str
    facts: dict[str, Number | str]
    settings: dict[str, Any] = field(default_factory=dict)
    unknown: tuple[tuple[str, str], ...] = ()
    role: str = "model"


def identify(raw: Mapping[Any, Any]) -> CheckpointContents:
    """Sort the entries of a checkpoint by what they hold."""
    sorter = _Sorter()
    tensors = {key: value for key, value in raw.items() if _is_weight(key, value)}
    if any(value.dim() for value in tensors.values()):
        sorter.add_state("model", tensors)
    else:
        tensors = {}
    for name, value in raw.items():
        if name not in tensors:
            sorter.add(str(name), value)
    contents = sorter.contents
    contents.is_ffreid = is_ffreid(raw)
    if contents.is_ffreid:
        contents.kind = "a checkpoint of ffreid"
    elif tensors:
        contents.kind = "a bare state dict"
    elif "pytorch-lightning_version" in raw:
        contents.kind = "a checkpoint of Lightning"
    else:
        entries = ", ".join(map(str, list(raw)[:8]))
        contents.kind = f"a checkpoint with {entries}" + " …" * (len(raw) > 8)
    contents.weights = dict(sorted(contents.weights.items(), key=lambda item: item[0] == "ema"))
    return contents


def settings_as_yaml(settings: Mapping[str, Any]) -> str:
    """Convert settings by dotted key to the YAML that checkpoints hold."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return str(yaml.safe_dump(tree))


def describe_origin(state: Mapping[str, Any], path: Path) -> str:
    """Describe where the weights of a checkpoint in ffreid's layout come from."""
    source = state.get("converted")
    if source is None:
        step = f", step {state['step']}" if "step" in state else ""
        return f"{path}, trained by ffreid{step}" if is_ffreid(state) else f"{path}, not by ffreid"
    numbers = [f"{key} {n:g}" for key, n in source.items() if isinstance(n, int | float)]
    file = source.get("file", path.name)
    values = f" ({', '.join(numbers)})" if numbers else ""
    return f"{path}, converted from {file}: {source['from']}{values}"


def is_ffreid(raw: Mapping[Any, Any]) -> bool:
    """Whether ffreid wrote or converted a checkpoint."""
    return isinstance(raw.get("parts"), Mapping) and "task" in raw


def convert_any(
    raw: Mapping[str, Any],
    path: Path,
    task: str,
    identify_network: Callable[[CheckpointContents], NetworkInfo | None],
    to_ffreid: Callable[..., tuple[dict[str, Any], list[str]]],
) -> tuple[dict[str, Any], str] | None:
    """Convert any checkpoint with a task's functions; see the task's ``convert_any``.

    Returns:
        None if it contains no network of the task.

    Raises:
        UserError: it is a checkpoint of ffreid of another task.
    """
    if is_ffreid(raw):
        if raw["task"] != task:
            raise UserError(
                f"{path} is a {raw['task']} checkpoint, not a {task} checkpoint",
                f"use a checkpoint of the task {task}",
            )
        return dict(raw), ""
    contents = identify(raw)
    if (info := identify_network(contents)) is None:
        return None
    checkpoint, notes = to_ffreid(contents, info, {})
    facts = ", ".join(f"{name} {value}" for name, value in info.facts.items())
    more = f" ({len(notes)} notes: ffreid convert-ckpt --dry-run)" if notes else ""
    return checkpoint, f"{path} is {contents.kind}: loaded as {info.name} ({facts}){more}"


def no_network_error(path: Path, network: str) -> UserError:
    """Return the error for a file without a `network`."""
    return UserError(
        f"{path} contains no {network}",
        f"use best.pth or last.pth of a run; ffreid convert-ckpt {path} --dry-run shows what the "
        "file contains",
    )


def _is_weight(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


class _Sorter:
    def __init__(self) -> None:
        self.contents = CheckpointContents()
        self.seen: set[int] = set()

    def drop(self, name: str, reason: str) -> None:
        self.contents.dropped.append((name, REASONS.get(reason, reason)))

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        """Put an entry where it belongs."""
        if isinstance(value, Mapping):
            self.add_best_of_callbacks(value)
        if (reason := reason_to_drop(name)) is not None and not _is_optimiser(value):
            self.drop(name, reason)
        elif (number := _as_number(value)) is not None:
            self.contents.numbers[name] = number
        elif isinstance(value, Mapping):
            self.add_mapping(name, value, depth + 1)
        elif isinstance(value, list | tuple) and any(map(_is_optimiser, value)):
            if self.is_new(name, value):
                for index, item in enumerate(value):
                    self.add(f"{name}.{index}", item, depth + 1)
        else:
            self.drop(
                name, "text" if isinstance(value, str) else "empty" if value is None else "other"
            )

    def is_new(self, name: str, container: object) -> bool:
        """Whether a container is seen for the first time: a small file may repeat one endlessly."""
        if id(container) in self.seen:
            self.drop(name, "duplicate")
            return False
        self.seen.add(id(container))
        return True

    def add_best_of_callbacks(self, callbacks: Mapping[Any, Any]) -> None:
        """Take the best value that Lightning keeps among its callbacks."""
        for state in callbacks.values():
            best = state.get("best_model_score") if isinstance(state, Mapping) else None
            if (number := _as_number(best)) is not None:
                self.contents.numbers["best_model_score"] = number

    def add_mapping(self, name: str, value: Mapping[Any, Any], depth: int) -> None:
        if _is_optimiser(value):
            self.contents.optimisers[name] = value
        elif any(str(key).startswith("loss_scaler") for key in value):
            self.drop(name, "amp")
        elif not value:
            self.drop(name, "empty")
        elif self.is_new(name, value):
            tensors = {key: item for key, item in value.items() if _is_weight(key, item)}
            if tensors:
                self.add_state(role_of(name), tensors)
            elif depth > MAX_DEPTH:
                self.drop(name, "deep")
                return
            for key, item in value.items():
                if key not in tensors:
                    self.add(f"{name}.{key}", item, depth)

    def add_state(self, role: str, state: Mapping[str, Tensor]) -> None:
        """Add a state dict without prefixes, split if it holds several networks."""
        counts = [key for key in state if key.rpartition(".")[2] in PROFILER_BUFFERS]
        if counts:
            self.drop(f"{len(counts)} x {counts[0]}", "profiler")
        state, prefixes = strip_prefixes({k: v for k, v in state.items() if k not in counts})
        for name, group in split_networks(state).items():
            group, more = strip_prefixes(group)
            self.add_network(role if name in ("", "model") else name, group, (*prefixes, *more))

    def add_network(self, role: str, state: State, prefixes: tuple[str, ...]) -> None:
        if not any(value.dim() for value in state.values()):
            self.contents.numbers |= {key: value.item() for key, value in state.items()}
            return
        while role in self.contents.weights:
            role += "'"
        # Without gradients: a state dict may consist of parameters.
        self.contents.weights[role] = {
            key: value.detach() if value.requires_grad else value for key, value in state.items()
        }
        if prefixes:
            self.contents.prefixes[role] = prefixes


def _is_optimiser(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("state"), Mapping)
        and isinstance(value.get("param_groups"), list)
    )


def _as_number(value: Any) -> Number | None:
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and not value.dim()):
        value = value.item()
    return value if isinstance(value, int | float) else None
