"""What a checkpoint of any program holds: weights, numbers, optimisers, and what is dropped."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ffreid.errors import UserError

Number = int | float
State = dict[str, Tensor]

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Prefixes of wrapped networks: DistributedDataParallel, torch.compile, Lightning, ffreid."""
NETWORK_HEADS = {"module", "_orig_mod", "model"}
"""First components of keys that contain a complete network, next to which there may be others."""
INNER_WRAPPERS = ("module", "_orig_mod")
"""Components that wrappers of a submodule leave inside a key."""
EMA = re.compile(r"(^|[._])(ema|swa|averaged|averages)($|[._])")
ROLES = {
    "model": {"model", "state_dict", "net", "network", "weights", "params"},
    "classifier": {"classifier", "identity_classifier"},
    "clothes": {"clothes_classifier", "clothes", "memory", "clothes_memory"},
}
"""Names of entries by what they hold, without the suffixes ``_state_dict`` and ``_state``."""
APEX = "apex loss scaler: the scale is estimated again"
DROPPED = {
    APEX: "amp",
    "loss scaler: the scale is estimated again": (
        "scaler grad_scaler loss_scaler native_amp_scaling_state"
    ),
    "learning rates follow from the configuration and the step": (
        "scheduler lr_scheduler lr_schedulers lr_sched"
    ),
    "settings of the program that wrote the file": (
        "args cfg config opt hparams hyper_parameters loops callbacks"
    ),
    "the objects of its network: kept in ffreid's format only": "objects",
    "random states: in ffreid, samples depend on seed and epoch only": (
        "rng_state cuda_rng_state random_state"
    ),
}
"""Names of entries that are dropped, separated by spaces, by reason."""

EMA_NOTE = (
    "the file also contains EMA weights, which are dropped; use --weights ema to convert them"
)
PROFILER_BUFFERS = ("total_ops", "total_params")
"""Buffers that the profiler thop leaves in networks."""
LARGEST = 2**53
"""Bound of integers: below it they are exact as floating point numbers."""
MAX_DEPTH = 6
"""Nested mappings that are searched; a pickle can create one that contains itself."""


@dataclass(kw_only=True)
class CheckpointContents:
    """What a checkpoint holds.

    Attributes:
        weights: state dicts by role: ``model``, ``ema``, ``classifier``, ``clothes``, else the
            entry's name; without prefixes; ``ema`` is the last.
        prefixes: removed from the keys, by role, outermost first.
        numbers: entries that are one number: epoch, step, best value.
        dropped: entries that are not converted, with the reason.
    """

    kind: str = ""
    weights: dict[str, State] = field(default_factory=dict)
    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    optimisers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    is_ffreid: bool = False
    _seen: set[int] = field(default_factory=set)
    _searched: set[int] = field(default_factory=set)

    def first_count(self, names: Iterable[str]) -> int | None:
        """Return the first count of these names as an int; None if there is none."""
        values = (self.numbers[name] for name in names if name in self.numbers)
        return next((int(value) for value in values if 0 <= value < math.inf), None)

    def drop(self, name: str, reason: str) -> None:
        """Note an entry that is not converted."""
        self.dropped.append((name, reason))

    def add(self, name: str, value: Any, depth: int = 0) -> None:
        """Put an entry where it belongs."""
        if isinstance(value, Mapping) and id(value) not in self._searched:
            self._searched.add(id(value))
            for state in value.values():  # Lightning keeps the best value among its callbacks
                best = state.get("best_model_score") if isinstance(state, Mapping) else None
                if (number := _as_number(best)) is not None:
                    self.numbers["best_model_score"] = number
        if _is_optimiser(value):
            self.optimisers[name] = value
        elif reason := reason_to_drop(name):
            self.drop(name, reason)
        elif (number := _as_number(value)) is not None:
            self.numbers[name] = number
        elif id(value) in self._seen:
            self.drop(name, "the same as an earlier entry")
        elif isinstance(value, Mapping) and any(
            str(key).startswith("loss_scaler") for key in value
        ):
            self._seen.add(id(value))
            self.drop(name, APEX)
        elif isinstance(value, Mapping | None) and not value:
            self.drop(name, "empty")
        elif isinstance(value, Mapping) or (
            isinstance(value, list | tuple) and any(map(_is_optimiser, value))
        ):
            self.add_items(name, value, depth + 1)
        elif isinstance(value, str):
            self.drop(name, "text: neither weights nor a number")
        else:
            if isinstance(value, list | tuple) and len(value) > 100:
                self._seen.add(id(value))
            self.drop(name, "neither weights nor a number")

    def add_items(self, name: str, container: Any, depth: int) -> None:
        """Add the items of a mapping or a list, once: a small file may repeat one endlessly."""
        self._seen.add(id(container))
        items = dict(container if isinstance(container, Mapping) else enumerate(container))
        tensors = weights_of(items)
        if not tensors and depth > MAX_DEPTH:
            self.drop(name, "nested too deeply for weights")
            return
        self.add_state(role_of(name), tensors)
        for key, item in items.items():
            if key not in tensors:
                self.add(f"{name}.{key}", item, depth)

    def add_state(self, role: str, state: Mapping[str, Tensor]) -> None:
        """Add a state dict without prefixes, split if it holds several networks."""
        counts = [key for key in state if key.rpartition(".")[2] in PROFILER_BUFFERS]
        if counts:
            self.drop(f"{len(counts)} x {counts[0]}", "operation counts of the profiler thop")
        state, prefixes = strip_prefixes({k: v for k, v in state.items() if k not in counts})
        for part, group in split_networks(state).items():
            weights, more = strip_prefixes(group)
            name = role if part in ("", "model") else part
            if not any(value.dim() for value in weights.values()):
                numbers = {key: _as_number(value) for key, value in weights.items()}
                self.numbers |= {key: value for key, value in numbers.items() if value is not None}
                continue
            while name in self.weights:
                name += "'"
            # Without gradients: a state dict may consist of parameters.
            self.weights[name] = {
                key: value.detach() if value.requires_grad else value
                for key, value in weights.items()
            }
            if prefixes or more:
                self.prefixes[name] = (*prefixes, *more)


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What keys and shapes tell about a network.

    Attributes:
        facts: for display: classes, keypoints, pooling.
        settings: that follow from the file, by dotted key.
        unknown: settings that do not, and what determines them.
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
    contents = CheckpointContents()
    tensors = weights_of(raw)
    if not any(value.dim() for value in tensors.values()):
        tensors = {}
    contents.add_state("model", tensors)
    for name, value in raw.items():
        if name not in tensors:
            contents.add(str(name), value)
    contents.is_ffreid = is_ffreid(raw)
    if contents.is_ffreid:
        contents.kind = "a checkpoint of ffreid"
    elif tensors:
        contents.kind = "a bare state dict"
    elif "pytorch-lightning_version" in raw:
        contents.kind = "a Lightning checkpoint"
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
        if not is_ffreid(state):
            return f"{path}, not trained by ffreid"
        return f"{path}, trained by ffreid" + (f", step {state['step']}" if "step" in state else "")
    numbers = [f"{key} {n:g}" for key, n in source.items() if isinstance(n, int | float)]
    file = source.get("file", path.name)
    values = f" ({', '.join(numbers)})" if numbers else ""
    return f"{path}, converted from {file}: {source['from']}{values}"


def is_ffreid(raw: Mapping[Any, Any]) -> bool:
    """Whether ffreid wrote or converted a checkpoint."""
    return "parts" in raw and "task" in raw


def convert_any(
    raw: Mapping[str, Any],
    path: Path,
    task: str,
    network: str,
    identify_network: Callable[[CheckpointContents], NetworkInfo | None],
    to_ffreid: Callable[..., tuple[dict[str, Any], list[str]]],
) -> tuple[dict[str, Any], str]:
    """Convert any checkpoint to ffreid's layout; also return a note if it was another's.

    Raises:
        UserError: it contains no `network`, or is a checkpoint of ffreid of another task.
    """
    if is_ffreid(raw):
        if raw["task"] != task:
            message = f"{path} is a {raw['task']} checkpoint, not a {task} checkpoint"
            raise UserError(message, f"use a {task} checkpoint")
        return dict(raw), ""
    contents = identify(raw)
    if (info := identify_network(contents)) is None:
        raise UserError(
            f"{path} contains no {network}",
            f"use best.pth or last.pth of a run; ffreid convert-ckpt {path} --dry-run shows what "
            "the file contains",
        )
    checkpoint, notes = to_ffreid(contents, info, {})
    facts = ", ".join(f"{name} {value}" for name, value in info.facts.items())
    more = f" ({len(notes)} notes: ffreid convert-ckpt --dry-run)" if notes else ""
    return checkpoint, f"{path} is {contents.kind}: loaded as {info.name} ({facts}){more}"


def weights_of(items: Mapping[Any, Any]) -> State:
    """Return those entries that are tensors."""
    return {k: v for k, v in items.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _is_optimiser(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("state"), Mapping)
        and isinstance(value.get("param_groups"), list)
    )


def _as_number(value: Any) -> Number | None:
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and not value.dim()):
        value = value.item()
    is_number = isinstance(value, float) or (isinstance(value, int) and abs(value) <= LARGEST)
    return value if is_number else None


def strip_prefixes(state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """Remove wrappers' prefixes, of all keys and inside keys; also return them, outermost first."""
    keys, removed = list(state), list[str]()
    while keys:
        prefix = next((p for p in WRAPPERS if all(key.startswith(p) for key in keys)), None)
        if prefix is None or prefix in keys:
            break
        keys, removed = [key.removeprefix(prefix) for key in keys], [*removed, prefix]
    inner = [".".join(p for p in key.split(".") if p not in INNER_WRAPPERS) for key in keys]
    if inner != keys and len(set(inner)) == len(inner) and all(inner):
        parts = {p for key in keys for p in key.split(".")[:-1] if p in INNER_WRAPPERS}
        keys, removed = inner, [*removed, *(f"…{part}." for part in sorted(parts))]
    return dict(zip(keys, state.values(), strict=True)), tuple(removed)


def _names(name: str) -> set[str]:
    last = name.rpartition(".")[2].lower()
    return {last, last.removesuffix("_state_dict").removesuffix("_state")}


def role_of(name: str) -> str:
    """Return what an entry holds by its name; the name itself where that is unknown."""
    if EMA.search(name.lower()):
        return "ema"
    return next((role for role, names in ROLES.items() if names & _names(name)), name)


def reason_to_drop(name: str) -> str | None:
    """Return why an entry of this name is not converted; None if it may be."""
    names = _names(name)
    return next((reason for reason, words in DROPPED.items() if names & {*words.split()}), None)


def split_networks(state: State) -> dict[str, State]:
    """Split a state dict whose keys start with names of complete networks, by role.

    A state dict of one network is returned as the group ``""``.
    """
    is_split = any(key.partition(".")[0] in NETWORK_HEADS for key in state)
    groups: dict[str, State] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        role = role_of(head) if is_split or EMA.search(head.lower()) else ""
        if head in NETWORK_HEADS:
            role = "model"
        groups.setdefault(role, {})[key if role in ("", "model") else rest or key] = value
    return groups
