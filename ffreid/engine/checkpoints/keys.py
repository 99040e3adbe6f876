"""What the names of entries and keys in a checkpoint say."""

import re
from collections.abc import Mapping

from torch import Tensor

State = dict[str, Tensor]

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Prefixes by which programs wrap a network: DistributedDataParallel, compile, Lightning, ours."""
WHOLE = {"module", "_orig_mod", "model"}
"""First parts of keys that stand for a whole network, beside which a file may hold others."""
INNER = ("module", "_orig_mod")
"""Components that wrappers of a part leave in the middle of a key."""
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged|averages)($|[._])")
ROLES = {
    "model": ("model", "state_dict", "net", "network", "weights", "params"),
    "classifier": ("classifier", "identity_classifier"),
    "clothes": ("clothes_classifier", "clothes", "memory", "clothes_memory"),
}
"""What entries hold, by their names without the endings below."""
ENDINGS = ("_state_dict", "_state")
WHY = {
    "amp": "apex's loss scaler: a new run finds its own scale",
    "scaler": "the loss scaler: a new run finds its own scale",
    "schedule": "learning rates follow from the configuration and the step",
    "setting": "settings of the program that wrote the file",
    "random": "states of random generators: here samples derive from seed and epoch",
    "text": "text: no weights and no number",
    "empty": "empty",
    "other": "neither weights nor a number",
    "deep": "nested too deeply for weights",
    "again": "the same as an entry before it",
}
NAMED = {
    "amp": ("amp",),
    "scaler": ("scaler", "grad_scaler", "loss_scaler", "native_amp_scaling_state"),
    "schedule": ("scheduler", "lr_scheduler", "lr_schedulers", "lr_sched"),
    "setting": (
        "args",
        "cfg",
        "config",
        "opt",
        "hparams",
        "hyper_parameters",
        "loops",
        "callbacks",
    ),
    "random": ("rng_state", "cuda_rng_state", "random_state"),
}
"""Names of entries that are dropped, by the reason."""


def stripped(state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """Take wrappers' prefixes off the keys: those that all keys have, and those inside keys.

    Returns:
        The state dict, and the prefixes, outermost first.
    """
    keys, taken = list(state), list[str]()
    while found := next((p for p in WRAPPERS if keys and all(k.startswith(p) for k in keys)), None):
        if any(key == found for key in keys):
            break
        keys, taken = [key.removeprefix(found) for key in keys], [*taken, found]
    inner = [".".join(part for part in key.split(".") if part not in INNER) for key in keys]
    if inner != keys and len(set(inner)) == len(inner) and all(inner):
        names = {p for old in keys for p in old.split(".")[:-1] if p in INNER}
        keys, taken = inner, [*taken, *(f"…{name}." for name in sorted(names))]
    return dict(zip(keys, state.values(), strict=True)), tuple(taken)


def role_of(name: str) -> str:
    """What an entry's name says that it holds; the name itself where it says nothing."""
    last = name.rpartition(".")[2].lower()
    if AVERAGED.search(name.lower()):
        return "ema"
    plain = last
    for ending in ENDINGS:
        plain = plain.removesuffix(ending)
    return next((role for role, names in ROLES.items() if {last, plain} & set(names)), name)


def reason_to_drop(name: str) -> str | None:
    """Say why an entry of this name is not taken over; None where its name is no reason."""
    last = name.rpartition(".")[2].lower()
    plain = {last, *(last.removesuffix(ending) for ending in ENDINGS)}
    return next((why for why, names in NAMED.items() if plain & set(names)), None)


def parted(state: State) -> dict[str, State]:
    """Part a state dict whose keys begin with names of whole networks; others stay together.

    The group ``""`` is the whole of an undivided one.
    """
    heads = {key.partition(".")[0] for key in state}
    whole = WHOLE & heads
    averaged = {head for head in heads if AVERAGED.search(head.lower())}
    if not whole and not averaged:
        return {"": state}
    groups: dict[str, State] = {}
    for key, value in state.items():
        head = key.partition(".")[0]
        rest = "" if not whole else role_of(head)
        name = "ema" if head in averaged else "model" if head in whole else rest
        groups.setdefault(name, {})[key] = value
    return {
        name: group if name in ("", "model") else _without_head(group)
        for name, group in groups.items()
    }


def _without_head(state: State) -> State:
    return {key.partition(".")[2] or key: value for key, value in state.items()}
