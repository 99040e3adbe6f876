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
    "model": ("model", "state_dict", "net", "network", "weights", "params"),
    "classifier": ("classifier", "identity_classifier"),
    "clothes": ("clothes_classifier", "clothes", "memory", "clothes_memory"),
}
"""Names of entries by what they hold, without these suffixes:"""
SUFFIXES = ("_state_dict", "_state")
REASONS = {
    "amp": "apex loss scaler: a new run finds its own scale",
    "scaler": "loss scaler: a new run finds its own scale",
    "schedule": "learning rates follow from the configuration and the step",
    "setting": "settings of the program that wrote the file",
    "random": "random states: in ffreid, samples depend on seed and epoch only",
    "profiler": "counts of the profiler thop",
    "text": "text: neither weights nor a number",
    "empty": "empty",
    "other": "neither weights nor a number",
    "deep": "nested too deeply for weights",
    "duplicate": "the same as an earlier entry",
}
DROPPED_NAMES = {
    "amp": {"amp"},
    "scaler": {"scaler", "grad_scaler", "loss_scaler", "native_amp_scaling_state"},
    "schedule": {"scheduler", "lr_scheduler", "lr_schedulers", "lr_sched"},
    "setting": {"args", "cfg", "config", "opt", "hparams", "hyper_parameters", "loops"}
    | {"callbacks"},
    "random": {"rng_state", "cuda_rng_state", "random_state"},
}
"""Names of entries that are dropped, by reason."""


def strip_prefixes(state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """Remove wrappers' prefixes from the keys: those of all keys, and those inside keys.

    Returns:
        The state dict, and the prefixes, outermost first.
    """
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


def role_of(name: str) -> str:
    """Return what an entry holds by its name; the name itself where that is unknown."""
    if EMA.search(name.lower()):
        return "ema"
    last = short = name.rpartition(".")[2].lower()
    for suffix in SUFFIXES:
        short = short.removesuffix(suffix)
    return next((role for role, names in ROLES.items() if {last, short} & {*names}), name)


def reason_to_drop(name: str) -> str | None:
    """Return why an entry of this name is not converted (a key of `REASONS`), or None."""
    last = name.rpartition(".")[2].lower()
    names = {last, *(last.removesuffix(suffix) for suffix in SUFFIXES)}
    return next((reason for reason, known in DROPPED_NAMES.items() if names & known), None)


def split_networks(state: State) -> dict[str, State]:
    """Split a state dict whose keys start with names of complete networks, by role.

    A state dict of one network is returned as the group ``""``.
    """
    heads = {key.partition(".")[0] for key in state}
    ema = {head for head in heads if EMA.search(head.lower())}
    is_split = bool(NETWORK_HEADS & heads)
    if not is_split and not ema:
        return {"": state}
    groups: dict[str, State] = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head in ema:
            role = "ema"
        elif head in NETWORK_HEADS:
            role = "model"
        else:
            role = role_of(head) if is_split else ""
        groups.setdefault(role, {})[key if role in ("", "model") else rest or key] = value
    return groups
