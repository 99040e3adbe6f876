"""Repairing what old files lack or name differently, and optimiser states of any PyTorch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ffreid.engine.checkpoints.contents import LARGEST, State
from ffreid.engine.task import Plan

RENAMED = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
}
"""Last components of keys as some forks name them."""
GROUP_ENTRIES = ("lr", "betas", "eps", "weight_decay", "amsgrad", "initial_lr", "params")
"""Entries of a parameter group of Adam in PyTorch 1.x."""
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""Entries of a parameter's state of Adam in any PyTorch."""


def repair_state(
    state: Mapping[str, Tensor], aliases: Mapping[str, str]
) -> tuple[State, list[str]]:
    """Return a state dict under current names, with missing counters and aliases, and notes.

    `aliases` maps the second name of a tensor to its first.
    """
    repaired: State = {}
    renamed, added = list[str](), 0
    for key, value in state.items():
        module, _, last = key.rpartition(".")
        new = f"{module}.{RENAMED[last]}" if module and last in RENAMED else key
        if new != key and new not in state:
            renamed.append(f"{key} is now named {new}")
            key = new
        repaired[key] = value
        counter = key.removesuffix("running_var") + "num_batches_tracked"
        if key.endswith("running_var") and counter not in state:
            repaired[counter] = torch.tensor(0)
            added += 1
    notes = renamed[:1] + [f"… and {len(renamed) - 1} more"] * (len(renamed) > 1)
    if added:
        counters = f"{added} counters num_batches_tracked"
        notes.append(f"{counters} are set to 0; PyTorch before 1.0 had none")
    for second, first in aliases.items():
        for missing, present in ((second, first), (first, second)):
            if missing not in repaired and present in repaired:
                repaired[missing] = repaired[present]
                notes.append(f"{missing} is the same tensor as {present}: saved under both names")
        one, other = repaired.get(first), repaired.get(second)
        if one is None or other is None:
            continue
        if one.dtype != other.dtype or not torch.equal(one, other):
            repaired[first] = other
            notes.append(
                f"{first} and {second} share a tensor but differ in the file: the second is used, "
                "as PyTorch does when loading them"
            )
    return repaired, notes


def complete_for_resume(
    state: Mapping[str, Any], classes: Sequence[str], plan: Plan
) -> dict[str, Any]:
    """Add what resuming needs to a converted checkpoint; others are returned unchanged.

    The classes of the run are used where the file has the same number of them.
    """
    filled = dict(state)
    if "converted" not in state:
        return filled
    count = state.get("class_count", len(classes))
    filled.setdefault("classes", list(classes) if count == len(classes) else ["unnamed"] * count)
    if filled.get("step") is None:
        filled["step"] = (filled.get("epoch", -1) + 1) * plan.steps_per_epoch
    return {"optimisers": {}, "total": plan.total, **filled}


def match_optimiser(
    optimiser: Mapping[str, Any], module: nn.Module, keys: Iterable[str]
) -> tuple[dict[str, Any] | None, str]:
    """Match an Adam state with the parameters of `module`, by position.

    PyTorch before 1.5 named parameters by their addresses. `keys` are of the file's network, in
    their order. Returns the state and an empty string, or None and why it does not match.
    """
    shapes = {name: value.shape for name, value in module.named_parameters()}
    groups, states = optimiser["param_groups"], optimiser["state"]
    group = groups[0] if len(groups) == 1 and isinstance(groups[0], Mapping) else {}
    names = group.get("params")
    if not isinstance(names, list) or not all(isinstance(name, int) for name in names):
        names = []
    places = {name: place for place, name in enumerate(names)}
    if [key for key in keys if key in shapes] != list(shapes):
        problem = "the network's parameters are in another order"
    elif len(groups) != 1:
        problem = f"it has {len(groups)} parameter groups, ffreid has 1"
    elif len(names) != len(shapes):
        problem = f"it has {len(names)} parameters, the network has {len(shapes)}"
    elif "betas" not in group:
        problem = "it is not Adam"
    elif len(places) != len(names) or not states.keys() <= places.keys():
        problem = "it has states of parameters that are in no group"
    else:
        by_place = {places[name]: entries for name, entries in states.items()}
        problem = find_mismatch(by_place, list(shapes.values()), MOMENTS)
    if problem:
        return None, problem
    return {
        "state": {place: dict(by_place[place]) for place in sorted(by_place)},
        "param_groups": [{**group, "params": list(places.values())}],
    }, ""


def find_mismatch(
    states: Mapping[int, Any], shapes: Sequence[torch.Size], needed: Collection[str]
) -> str:
    """Return why states do not have these entries or shapes, by parameter; empty if they do."""
    for place, entries in states.items():
        if not isinstance(entries, Mapping) or (entries and not entries.keys() >= set(needed)):
            return "it is of another optimiser"
        for entry, value in entries.items():
            if entry != "step" and not (isinstance(value, Tensor) and value.shape == shapes[place]):
                return f"{entry} of parameter {place} has another shape"
        step = entries.get("step", 0)
        if isinstance(step, Tensor) and step.numel() == 1:
            step = step.item()
        if not isinstance(step, int | float) or isinstance(step, bool) or not 0 <= step <= LARGEST:
            return f"the step of parameter {place} is not a number"
    return ""


def to_old_optimiser(optimiser: Mapping[str, Any]) -> dict[str, Any]:
    """Return an Adam state as PyTorch 1.x writes it: integer steps, fewer entries per group."""
    return {
        "state": {
            place: {key: int(value) if key == "step" else value for key, value in entries.items()}
            for place, entries in optimiser["state"].items()
        },
        "param_groups": [
            {name: group[name] for name in GROUP_ENTRIES if name in group}
            for group in optimiser["param_groups"]
        ],
    }


def count_numbers(weights: Iterable[Tensor]) -> int:
    """Count the elements of tensors, shared ones once."""
    return sum({value.data_ptr(): value.numel() for value in weights}.values())
