"""What the names of entries and keys in a checkpoint mean."""

import re
from collections.abc import Mapping

from torch import Tensor

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
    "random states: in ffreid, samples depend on seed and epoch only": (
        "rng_state cuda_rng_state random_state"
    ),
}
"""Names of entries that are dropped, separated by spaces, by reason."""


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
