"""What old files lack or call otherwise, and optimisers' states of any PyTorch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ffreid.engine.checkpoints.keys import State

RENAMED = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
}
"""Last parts of keys as some forks call them."""
GROUP_ENTRIES = ("lr", "betas", "eps", "weight_decay", "amsgrad", "initial_lr", "params")
"""What a group of parameters held in Adam of PyTorch 1.x."""
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What Adam keeps of each parameter, in any PyTorch."""


def mended(state: Mapping[str, Tensor], aliases: Mapping[str, str]) -> tuple[State, list[str]]:
    """Give a state dict under today's names, with the counters and aliases that it lacks.

    Args:
        state: without prefixes.
        aliases: second name of a tensor to its first.

    Returns:
        The state dict, and what was done, in words.
    """
    mended, notes = _renamed(state)
    mended, added = _counted(mended)
    if added:
        notes.append(
            f"{added} counters num_batches_tracked, which files of PyTorch before 1.0 lack, are "
            "written as 0"
        )
    for second, first in aliases.items():
        for missing, there in ((second, first), (first, second)):
            if missing not in mended and there in mended:
                mended[missing] = mended[there]
                notes.append(f"{missing} is the same tensor as {there}: written under both names")
        if first in mended and not _equal(mended[first], mended[second]):
            mended[first] = mended[second]
            notes.append(
                f"{first} and {second} are one tensor but differ in the file: the latter counts, "
                "as where PyTorch loads them"
            )
    return mended, notes


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _renamed(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    renamed, notes = {}, []
    for key, value in state.items():
        module, _, last = key.rpartition(".")
        new = f"{module}.{RENAMED[last]}" if module and last in RENAMED else key
        if new in state or new == key:
            new = key
        else:
            notes.append(f"{key} is {new} today")
        renamed[new] = value
    return renamed, notes[:1] + ([f"… and {len(notes) - 1} more"] if len(notes) > 1 else [])


def _counted(state: State) -> tuple[State, int]:
    """Put a zero behind each running variance that has no counter."""
    counted: State = {}
    for key, value in state.items():
        counted[key] = value
        counter = key.removesuffix("running_var") + "num_batches_tracked"
        if key.endswith("running_var") and counter not in state:
            counted[counter] = torch.tensor(0)
    return counted, len(counted) - len(state)


def completed(
    state: Mapping[str, Any], *, classes: Sequence[str], total: int, steps_per_epoch: int
) -> dict[str, Any]:
    """Give a converted checkpoint what going on as a run needs and old files do not hold.

    Args:
        state: of our layout; one that was not converted is given back as it is.
        classes: what the run tells apart; taken where the file's count is the same.
        total: steps of the run.
        steps_per_epoch: of the run; the file's epochs are counted in steps by it.
    """
    filled = dict(state)
    if "converted" not in state:
        return filled
    count = state.get("class_count", len(classes))
    filled.setdefault("classes", list(classes) if count == len(classes) else ["unnamed"] * count)
    if filled.get("step") is None:
        filled["step"] = (filled.get("epoch", -1) + 1) * steps_per_epoch
    return {"optimisers": {}, "total": total, **filled}


def fitted_optimiser(
    optimiser: Mapping[str, Any], module: nn.Module, keys: Iterable[str]
) -> tuple[dict[str, Any] | None, str]:
    """Give an optimiser's state for the parameters of `module`, counted by position.

    PyTorch before 1.5 counted them by their addresses.

    Args:
        optimiser: its state.
        module: of ours.
        keys: of the network that it trained, in their order.

    Returns:
        The state and an empty word, or None and why it does not fit.
    """
    shapes = {name: value.shape for name, value in module.named_parameters()}
    if [key for key in keys if key in shapes] != list(shapes):
        return None, "the network's parameters came in another order"
    if why := _misfit(optimiser, list(shapes.values())):
        return None, why
    (group,) = optimiser["param_groups"]
    places = {name: place for place, name in enumerate(group["params"])}
    numbered = {places[name]: dict(own) for name, own in optimiser["state"].items()}
    return {
        "state": dict(sorted(numbered.items())),
        "param_groups": [{**group, "params": list(places.values())}],
    }, ""


def _misfit(optimiser: Mapping[str, Any], shapes: Sequence[torch.Size]) -> str:
    """Say why an optimiser's state is not of parameters of these shapes; nothing where it is."""
    groups, state = optimiser["param_groups"], optimiser["state"]
    if len(groups) != 1:
        return f"it has {len(groups)} groups of parameters, ours has 1"
    known = groups[0].get("params", []) if isinstance(groups[0], Mapping) else []
    if len(known) != len(shapes):
        return f"it is of {len(known)} parameters, the network has {len(shapes)}"
    if "betas" not in groups[0]:
        return "it is not Adam's"
    places = {name: place for place, name in enumerate(known)}
    if len(places) != len(known) or not state.keys() <= places.keys():
        return "it holds states of parameters that are in no group"
    for name, own in state.items():
        if not isinstance(own, Mapping) or (own and not own.keys() >= MOMENTS):
            return "it is not Adam's"
        if not _is_step(own.get("step", 0)):
            return f"the step of parameter {places[name]} is no number"
        for entry, value in own.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != shapes[places[name]]:
                return f"{entry} of parameter {places[name]} has another shape"
    return ""


def _is_step(value: Any) -> bool:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return isinstance(value, int | float) and math.isfinite(value)


def old_optimiser(optimiser: Mapping[str, Any]) -> dict[str, Any]:
    """Give an Adam's state as PyTorch 1.x writes it: steps are whole numbers, groups hold less."""
    return {
        "state": {
            place: {name: int(value) if name == "step" else value for name, value in own.items()}
            for place, own in optimiser["state"].items()
        },
        "param_groups": [
            {name: group[name] for name in GROUP_ENTRIES if name in group}
            for group in optimiser["param_groups"]
        ],
    }


def total(weights: Sequence[Tensor]) -> int:
    """Count the numbers in tensors, each storage's once."""
    return sum({value.data_ptr(): value.numel() for value in weights}.values())
