"""Simple-CCReID's checkpoints, whoever wrote them, as ours; and ours as theirs."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine.checkpoints import contents
from ffreid.engine.checkpoints.contents import CheckpointContents, Facts
from ffreid.engine.checkpoints.keys import State
from ffreid.engine.checkpoints.repair import mended
from ffreid.reid.defaults import IMAGE_NETWORKS
from ffreid.reid.resources import resource

NETWORK = "re-identification network"
BACKBONE = ("ResNet-50", "reid")
"""torchvision's network below all of these, and whose it is."""
IMAGE_KEYS = ("base.0.weight", "base.7.2.conv3.weight", "bn.running_var")
VIDEO_KEYS = ("conv1.weight", "layer4.2.conv3.weight", "bn.running_var")
PARTS = ("model_state_dict", "classifier_state_dict", "clothes_classifier_state_dict")
"""The original's entries: the network and its two heads."""
BEST = ("rank1", "best_rank1", "best_prec1")


def claims(found: CheckpointContents) -> Facts | None:
    """Say what a file tells of a network of Simple-CCReID; None where it holds none."""
    role = next((role for role in found.weights if _network(found.weights[role])), None)
    if role is None:
        return None
    state = found.weights[role]
    name = _network(state)
    features = state["bn.running_var"].numel()
    settings: dict[str, Any] = {"MODEL.NAME": name}
    told: dict[str, int | float | str] = {"features": features}
    unsaid = []
    if name in IMAGE_NETWORKS:
        if (pooling := _pooling(state, features)) is None:
            unsaid.append(("MODEL.POOLING.NAME", "avg or max give the same keys: the recipe's"))
        else:
            settings["MODEL.POOLING.NAME"] = told["pooling"] = pooling
    elif name.startswith("ap3d"):
        settings["MODEL.AP3D.CONTRACTIVE_ATT"] = any("contrastive_att" in key for key in state)
        told["contrastive attention"] = "yes" if settings["MODEL.AP3D.CONTRACTIVE_ATT"] else "no"
        unsaid.append(("MODEL.AP3D.TEMPERATURE", "has no weights: the recipe's"))
    unsaid += [
        ("MODEL.RES4_STRIDE", "changes no shape: the recipe's"),
        ("DATA.HEIGHT, DATA.WIDTH", "any size fits: the recipe's"),
    ]
    return Facts(
        task="reid",
        network=name,
        told=told | _heads(found),
        settings=settings,
        unsaid=tuple(unsaid),
        role=role,
    )


def _network(state: Mapping[str, Tensor]) -> str:
    """MODEL.NAME of a state dict, empty where it is none of ours."""
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


def _pooling(state: Mapping[str, Tensor], features: int) -> str | None:
    if "globalpooling.p" in state:
        return "gem"
    return "maxavg" if features == 2 * _length(state["base.7.2.conv3.weight"]) else None


def _heads(found: CheckpointContents) -> dict[str, int | float | str]:
    """Count what the heads tell apart."""
    told: dict[str, int | float | str] = {}
    head, clothes = found.weights.get("classifier", {}), found.weights.get("clothes", {})
    if "classifier.weight" in head or "weight" in head:
        told["identities"] = _rows(head)
        told["identity classifier"] = "cosines" if "weight" in head else "linear"
    if "feature_memory" in clothes:
        told["outfits"] = _length(clothes["feature_memory"])
        told["CAL"] = "calwithmemory"
    elif "weight" in clothes:
        told["outfits"], told["CAL"] = _rows(clothes), "cal"
    return told | _data_set(told.get("identities"), told.get("outfits"))


def _rows(head: Mapping[str, Tensor]) -> int:
    return _length(head["weight"] if "weight" in head else head["classifier.weight"])


def _length(value: Tensor) -> int:
    return value.shape[0] if value.dim() else 0


def _data_set(identities: Any, clothes: Any) -> dict[str, str]:
    """The only data set whose published counts are these, if there is one."""
    names = {
        name
        for name, facts in resource("counts").items()
        for release in facts["releases"]
        if (train := release["rows"].get("train", {})).get("identities") == identities
        and train.get("outfits", clothes) == clothes
    }
    return {"data set": f"{names.pop()}, as its counts are these"} if len(names) == 1 else {}


def build(facts: Facts, settings: CfgNode) -> nn.Module:
    """Make the network that `facts` and `settings` tell of."""
    from ffreid.reid.networks import build_network  # which loads old files by this module

    with torch.random.fork_rng(devices=[]):  # whoever loads a file goes on drawing as before
        return build_network(settings)


def run(net: nn.Module, settings: CfgNode) -> dict[str, Tensor]:
    """Run one forward on made-up input; give what comes out, by name."""
    frames = () if settings.MODEL.NAME in IMAGE_NETWORKS else (2,)
    noise = torch.randn(1, 3, *frames, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return {"features": net.eval()(noise)}


def repaired(found: CheckpointContents, facts: Facts) -> tuple[State, list[str]]:
    """Give the network's state dict under today's names, and what was done to it."""
    return mended(found.weights[facts.role], {})


def to_ours(
    found: CheckpointContents, facts: Facts, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Give a checkpoint in our layout, and what is worth a word.

    Args:
        found: what the file holds.
        facts: what that tells.
        settings: given ones by dotted key, which the checkpoint says it was trained with.
    """
    model, notes = repaired(found, facts)
    heads = [found.weights.get(name, {}) for name in ("classifier", "clothes")]
    net = {f"model.{key}": value for key, value in model.items()}
    parts: dict[str, State] = {"net": net | {f"classifier.{k}": v for k, v in heads[0].items()}}
    if heads[1]:
        parts["memory" if "feature_memory" in heads[1] else "clothes"] = heads[1]
    ours: dict[str, Any] = {"task": "reid", "dataset": None, "best": None}
    ours["converted"] = {"from": found.kind, **found.numbers}
    ours["config"] = contents.as_yaml({**facts.settings, **settings})
    ours |= {"parts": parts} | dict(zip(PARTS, (model, *heads), strict=True))
    rank1 = next((found.numbers[name] for name in BEST if name in found.numbers), None)
    ours |= {"rank1": math.nan if rank1 is None else float(rank1)}
    ours |= {} if rank1 is None else {"measured": {"rank1": float(rank1)}}
    if (epoch := contents.whole(found, ["epoch"])) is not None:
        ours["epoch"] = epoch
    counts = [facts.told[name] for name in ("identities", "outfits") if name in facts.told]
    ours |= {"class_count": sum(map(int, counts))} if len(counts) == 2 else {}
    notes += [f"{name} is not taken over: CAL's optimisers start anew" for name in found.optimisers]
    if "ema" in found.weights and facts.role != "ema":
        notes.append(contents.AVERAGED_COPY)
    return ours, notes


def to_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Give a checkpoint of ours as the authors' code writes and reads it, keys in their order."""
    net, parts = state["parts"]["net"], state["parts"]
    heads = {
        PARTS[0]: _below(net, "model."),
        PARTS[1]: _below(net, "classifier."),
        PARTS[2]: OrderedDict(parts.get("clothes") or parts.get("memory") or {}),
    }
    return {**heads, "rank1": state.get("rank1", math.nan), "epoch": state.get("epoch", 0)}


def _below(state: Mapping[str, Tensor], prefix: str) -> "OrderedDict[str, Tensor]":
    return OrderedDict(
        (key.removeprefix(prefix), value) for key, value in state.items() if key.startswith(prefix)
    )


def converted(raw: Mapping[str, Any], origin: Path) -> tuple[dict[str, Any], str]:
    """Give a checkpoint of anyone's in our layout, in memory, and the line to say of it.

    Raises:
        UserError: it holds no network of Simple-CCReID.
    """
    if (own := contents.own(raw, origin, task="reid", network=NETWORK)) is not None:
        return own, ""
    found = contents.identify(raw)
    facts = claims(found)
    if facts is None and isinstance(raw.get("model_state_dict"), Mapping):
        return dict(raw), ""  # of another network: loading it tells which keys do not fit
    if facts is None:
        raise contents.holds_no(NETWORK, origin)
    ours, notes = to_ours(found, facts, {})
    told = ", ".join(f"{name} {value}" for name, value in facts.told.items())
    return ours, contents.taken_as(f"{facts.network} ({told})", found, origin, notes)
