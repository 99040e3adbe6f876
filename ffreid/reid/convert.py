"""Simple-CCReID checkpoints of any program in ffreid's layout, and back in the original's."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine.checkpoints import contents as checkpoints
from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo, State
from ffreid.engine.checkpoints.repair import repair_state
from ffreid.engine.checkpoints.schema import find_problem
from ffreid.errors import UserError
from ffreid.reid.defaults import IMAGE_NETWORKS
from ffreid.reid.model import build_network
from ffreid.reid.resources import resource

BACKBONE = ("ResNet-50", "reid")
"""torchvision's network below all of these, and its task."""
IMAGE_KEYS = ("base.0.weight", "base.7.2.conv3.weight", "bn.running_var")
VIDEO_KEYS = ("conv1.weight", "layer4.2.conv3.weight", "bn.running_var")
PARTS = ("model_state_dict", "classifier_state_dict", "clothes_classifier_state_dict")
"""The original's entries: the network and its two heads."""
ALIASES: dict[str, str] = {}
BEST = ("rank1", "best_rank1", "best_prec1")


def identify_network(contents: CheckpointContents) -> NetworkInfo | None:
    """Describe the network of Simple-CCReID in a file; None where there is none."""
    names = {role: _network(state) for role, state in contents.weights.items()}
    if (role := next((role for role, name in names.items() if name), None)) is None:
        return None
    state, name = contents.weights[role], names[role]
    features = state["bn.running_var"].numel()
    settings: dict[str, Any] = {"MODEL.NAME": name}
    facts: dict[str, int | float | str] = {"features": features}
    unknown = []
    if name in IMAGE_NETWORKS:
        if "globalpooling.p" in state:
            settings["MODEL.POOLING.NAME"] = facts["pooling"] = "gem"
        elif features == 2 * _length(state["base.7.2.conv3.weight"]):
            settings["MODEL.POOLING.NAME"] = facts["pooling"] = "maxavg"
        else:
            unknown.append(("MODEL.POOLING.NAME", "the recipe; keys are the same for avg and max"))
    elif name.startswith("ap3d"):
        settings["MODEL.AP3D.CONTRACTIVE_ATT"] = any("contrastive_att" in key for key in state)
        facts["contrastive attention"] = "yes" if settings["MODEL.AP3D.CONTRACTIVE_ATT"] else "no"
        unknown.append(("MODEL.AP3D.TEMPERATURE", "the recipe; not stored in the weights"))
    unknown += [
        ("MODEL.RES4_STRIDE", "the recipe; has no effect on shapes"),
        ("DATA.HEIGHT, DATA.WIDTH", "the recipe; any size works"),
    ]
    facts |= _head_sizes(contents)
    return NetworkInfo(
        task="reid", name=name, facts=facts, settings=settings, unknown=tuple(unknown), role=role
    )


def _network(state: Mapping[str, Tensor]) -> str:
    """Return MODEL.NAME of a state dict, empty for other networks."""
    if all(key in state for key in IMAGE_KEYS) and state["base.0.weight"].dim() == 4:
        return "resnet50"
    if not all(key in state for key in VIDEO_KEYS) or state["conv1.weight"].dim() != 5:
        return ""
    non_local = any(".theta." in key for key in state)
    if any(".temporal_conv3d." in key for key in state):
        return "ap3dnlres50" if non_local else "ap3dres50"
    if any(".conv2.conv3d." in key for key in state):
        return "i3dres50"
    return "nlres50" if non_local else "c2dres50"


def _head_sizes(contents: CheckpointContents) -> dict[str, int | float | str]:
    """Count the classes of the heads, and name the dataset that has these counts."""
    facts: dict[str, int | float | str] = {}
    head, clothes = contents.weights.get("classifier", {}), contents.weights.get("clothes", {})
    weight = head.get("weight", head.get("classifier.weight"))
    if weight is not None:
        facts["identities"] = _length(weight)
        facts["identity classifier"] = "cosine" if "weight" in head else "linear"
    if "feature_memory" in clothes:
        facts |= {"clothes": _length(clothes["feature_memory"]), "CAL": "calwithmemory"}
    elif "weight" in clothes:
        facts |= {"clothes": _length(clothes["weight"]), "CAL": "cal"}
    names = {
        name
        for name, counts in resource("counts").items()
        for release in counts["releases"]
        if (train := release["rows"].get("train", {})).get("identities") == facts.get("identities")
        and train.get("outfits", facts.get("clothes")) == facts.get("clothes")
    }
    if len(names) == 1:
        facts["data set"] = f"{names.pop()}, the only one with these counts"
    return facts


def _length(value: Tensor) -> int:
    return value.shape[0] if value.dim() else 0


def build(info: NetworkInfo, cfg: CfgNode) -> nn.Module:
    """Build the network that `info` and `cfg` describe."""
    with torch.random.fork_rng(devices=[]):  # loading a file must not change random numbers
        return build_network(cfg)


def run(net: nn.Module, cfg: CfgNode) -> dict[str, Tensor]:
    """Run one forward on random input; outputs by name."""
    frames = () if cfg.MODEL.NAME in IMAGE_NETWORKS else (2,)
    noise = torch.randn(1, 3, *frames, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return {"features": net.eval()(noise)}


def to_ffreid(
    contents: CheckpointContents, info: NetworkInfo, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Convert to ffreid's layout; also return notes.

    `settings` are the user's, by dotted key, with which it was trained.
    """
    model, notes = repair_state(contents.weights[info.role], ALIASES)
    classifier, clothes = (contents.weights.get(name, {}) for name in ("classifier", "clothes"))
    net = {f"model.{key}": value for key, value in model.items()}
    parts: dict[str, State] = {"net": net | {f"classifier.{k}": v for k, v in classifier.items()}}
    if clothes:
        parts["memory" if "feature_memory" in clothes else "clothes"] = clothes
    numbers = contents.numbers
    rank1 = next((float(numbers[name]) for name in BEST if name in numbers), None)
    checkpoint: dict[str, Any] = {
        "task": "reid",
        "dataset": None,
        "best": None,
        "converted": {"from": contents.kind, **numbers},
        "config": checkpoints.settings_as_yaml({**info.settings, **settings}),
        "parts": parts,
        **dict(zip(PARTS, (model, classifier, clothes), strict=True)),
        "rank1": math.nan if rank1 is None else rank1,
    }
    if rank1 is not None:
        checkpoint["measured"] = {"rank1": rank1}
    if (epoch := contents.first_count(["epoch"])) is not None:
        checkpoint["epoch"] = epoch
    if "identities" in info.facts and "clothes" in info.facts:
        checkpoint["class_count"] = int(info.facts["identities"]) + int(info.facts["clothes"])
    notes += [f"{name} is dropped: CAL's optimisers restart" for name in contents.optimisers]
    if "ema" in contents.weights and info.role != "ema":
        notes.append(checkpoints.EMA_NOTE)
    return checkpoint, notes


def to_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Convert from ffreid's layout to that of the original's code, keys in their order."""
    parts = state["parts"]
    model, classifier = (
        OrderedDict((k.removeprefix(p), v) for k, v in parts["net"].items() if k.startswith(p))
        for p in ("model.", "classifier.")
    )
    clothes = OrderedDict(parts.get("clothes") or parts.get("memory") or {})
    return {
        **dict(zip(PARTS, (model, classifier, clothes), strict=True)),
        "rank1": state.get("rank1", math.nan),
        "epoch": state.get("epoch", 0),
    }


def convert_any(raw: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Convert any checkpoint to ffreid's layout; also return a note if it was another's."""
    network = "re-identification network"
    try:
        return checkpoints.convert_any(raw, path, "reid", network, identify_network, to_ffreid)
    except UserError:
        if checkpoints.is_ffreid(raw) or not isinstance(raw.get(PARTS[0]), Mapping):
            raise
        # Of another network: loading it reports the keys that do not fit.
        others = {} if find_problem(raw) else raw
        return {**others, PARTS[0]: checkpoints.weights_of(raw[PARTS[0]])}, ""
