"""What the entries of a checkpoint of ffreid hold: checked when read, and against a network."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ffreid.config import dumped_settings
from ffreid.engine.checkpoints.contents import LARGEST
from ffreid.engine.checkpoints.file_types import unreadable
from ffreid.engine.checkpoints.repair import MOMENTS, find_mismatch
from ffreid.engine.defaults import CHOICES

Check = Callable[[str, Any], str]
"""Say what is wrong with a value, naming it by the text; empty if nothing is."""


def check(state: Mapping[str, Any], path: Path) -> None:
    """Check those of the known entries that a checkpoint of ffreid has.

    Raises:
        UserError: naming the entry, its value and what it should be.
    """
    if problem := find_problem(state):
        hint = "use another checkpoint of the run: this one was changed or damaged"
        raise unreadable(path, problem, hint)


def find_problem(state: Mapping[str, Any]) -> str:
    """Say which entry is wrong, and how; empty if none is."""
    return _state("", state) or ("" if "converted" in state else _find_excess(state))


def find_difference(name: str, value: Any, example: Any) -> str:
    """Say where a value's structure, types or shapes are not those of an example.

    Mappings may hold more than the example; a switch or None may be missing.
    """
    match example:
        case Tensor():
            shape = tuple(example.shape)
            is_like = isinstance(value, Tensor) and tuple(value.shape) == shape
            return "" if is_like else f"{name} is {_describe(value)}, not a tensor of shape {shape}"
        case Mapping():
            return _mapping(name, value) or _first(
                find_difference(f"{name}.{key}", value.get(key), item)
                for key, item in example.items()
            )
        case list() | tuple():
            if not isinstance(value, list | tuple) or len(value) != len(example):
                return f"{name} is {_describe(value)}, not {len(example)} values"
            pairs = enumerate(zip(value, example, strict=True))
            return _first(find_difference(f"{name}.{i}", *pair) for i, pair in pairs)
        case bool() | None:
            return "" if value is None else _flag(name, value)
    return _amount(name, value)


def find_optimiser_difference(name: str, state: Any, optimiser: Optimizer, *, is_own: bool) -> str:
    """Say where the state of an optimiser does not fit one that has taken no step.

    The settings of a run of its own (`is_own`), except for the rates, must be equal too.
    """
    example = optimiser.state_dict()
    if problem := find_difference(name, state, example):
        return problem
    for group, like in zip(state["param_groups"], example["param_groups"], strict=True):
        if group["params"] != like["params"]:
            return f"{name} is of other parameters"
        for key, value in like.items():
            is_equal = group.get(key) == value or not isinstance(value, float | tuple)
            if is_own and key != "lr" and not is_equal:
                return f"{name}.{key} is {group[key]}, the run has {value}"
        if not all(beta < 1 for beta in group.get("betas", ())):
            return f"{name}.betas is {group['betas']}"
    shapes = [value.shape for group in optimiser.param_groups for value in group["params"]]
    if not state["state"].keys() <= set(range(len(shapes))):
        return f"{name} is of other parameters"
    needed = MOMENTS if "betas" in optimiser.defaults else ("momentum_buffer",)
    problem = find_mismatch(state["state"], shapes, needed)
    return problem and f"{name}: {problem}"


def _first(problems: Any) -> str:
    return next(filter(None, problems), "")


def _value(expected: str, holds: Callable[[Any], bool]) -> Check:
    return lambda name, value: (
        "" if holds(value) else f"{name} is {_describe(value)}, not {expected}"
    )


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool | float) or _is_integer(value):
        return repr(value)
    return "a huge integer" if isinstance(value, int) else f"a {type(value).__name__}"


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_integer(value)


_text = _value("text", lambda value: isinstance(value, str))
_name = _value(
    "a name", lambda value: isinstance(value, str) and len(value) < 200 and value.isprintable()
)
_texts = _value(
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
)
_count = _value("an integer of 0 or more", lambda value: _is_integer(value) and value >= 0)
_total = _value("an integer of 1 or more", lambda value: _is_integer(value) and value >= 1)
_number = _value("a number", _is_number)
_amount = _value(
    "a finite number of 0 or more", lambda value: _is_number(value) and 0 <= value < math.inf
)
_flag = _value("true or false", lambda value: isinstance(value, bool))
_tensor = _value("a tensor", lambda value: isinstance(value, Tensor))
_mapping = _value("a mapping", lambda value: isinstance(value, Mapping))


def _or_none(check: Check) -> Check:
    return lambda name, value: "" if value is None else check(name, value)


def _each(check: Check) -> Check:
    def find_problem(name: str, value: Any) -> str:
        return _mapping(name, value) or _first(
            _text(f"a key of {name}", key) or check(f"{name}.{key}", item)
            for key, item in value.items()
        )

    return find_problem


def _list_of(check: Check) -> Check:
    def find_problem(name: str, value: Any) -> str:
        if not isinstance(value, list):
            return f"{name} is {_describe(value)}, not a list"
        return _first(check(f"{name}.{i}", item) for i, item in enumerate(value))

    return find_problem


def _record(checks: Mapping[str, Check], *needed: str, closed: bool = False) -> Check:
    """Check entries by name; others are refused where the record is `closed`."""

    def find_problem(name: str, value: Any) -> str:
        prefix = name and f"{name}."
        return (
            _mapping(name, value)
            or _first(f"{prefix}{key} is missing" for key in needed if key not in value)
            or _first(
                f"{prefix}{key!r} is unknown" for key in value if closed and key not in checks
            )
            or _first(
                check(prefix + key, value[key]) for key, check in checks.items() if key in value
            )
        )

    return find_problem


def _config(name: str, value: Any) -> str:
    if problem := _text(name, value):
        return problem
    try:
        dumped_settings(value)
    except ValueError:
        return f"{name} is {_describe(value)}, not the settings of a run"
    return ""


def _find_excess(state: Mapping[str, Any]) -> str:
    """Say which count of a run's checkpoint is higher than is possible."""
    if (step := state.get("step", LARGEST)) is None:
        return "step is None, not an integer"
    counts = {name: state.get(name, 0) for name in ("skipped", "lines")}
    counts["epoch_sums.steps"] = state.get("epoch_sums", {}).get("steps", 0)
    counts |= {
        f"bests.{name}.step": best.get("step") or 0 for name, best in state.get("bests", {}).items()
    }
    if "total" in state and step > state["total"]:
        return f"step is {step} of a total of {state['total']}"
    return _first(
        f"{name} is {count} after {step} steps" for name, count in counts.items() if count > step
    )


_data = _value(
    "the kind and digests of the training data",
    lambda value: (
        isinstance(value, tuple)
        and len(value) == 2
        and value[0] in CHOICES["TRAIN.FINGERPRINT"]
        and isinstance(value[1], Tensor)
        and value[1].dtype == torch.int64
    ),
)
_weights = _each(_tensor)
_objects = {
    "names": _texts,
    "numbers": _list_of(_count),
    "keypoints": _tensor,
    "corners": _tensor,
    "radii": _tensor,
    "diameters": _tensor,
    "symmetric": _list_of(_total),
    "symmetries": _list_of(_mapping),
    "points": _list_of(_tensor),
    "frame_size": _list_of(_total),
}
_best = {"name": _name, "value": _number, "step": _or_none(_count)}
_sums = {"steps": _count, "seconds": _amount, "waited": _amount, "sums": _each(_number)}
_state = _record(
    {
        "task": _name,
        "dataset": _or_none(_name),
        "classes": _texts,
        "class_count": _total,
        "step": _or_none(_count),
        "total": _total,
        "best": _or_none(_number),
        "bests": _each(_record(_best, "name", "value", closed=True)),
        "measured": _each(_number),
        "evaluated": _flag,
        "skipped": _count,
        "epoch_sums": _record(_sums, closed=True),
        "lines": _count,
        "config": _config,
        "converted": _record({"from": _text, "file": _text}, "from"),
        "data": _data,
        "objects": _record(_objects, *_objects),
        "parts": _each(_weights),
        "optimisers": _each(_mapping),
        "scaler": _each(_amount),
        "averages": _weights,
        "model_state_dict": _weights,
        "classifier_state_dict": _weights,
        "clothes_classifier_state_dict": _weights,
        "rank1": _number,
        "epoch": _count,
    }
)
