"""FFB6D checkpoints of any program in ffreid's layout, and back in the original's."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine.checkpoints import contents as checkpoints
from ffreid.engine.checkpoints.contents import CheckpointContents, NetworkInfo
from ffreid.engine.checkpoints.repair import match_optimiser, repair_state, to_old_optimiser
from ffreid.errors import UserError
from ffreid.pose.data.batch import Sample, collate
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.sample import make_sample
from ffreid.pose.defaults import linemod_names
from ffreid.pose.model.ffb6d import FFB6D, Outputs
from ffreid.pose.objects import ycb_objects

ALIASES = {
    f"cnn_up_stages.3.1.0.{name}": f"cnn_up_stages.2.0.0.{name}" for name in ("weight", "bias")
}
"""Second name of a tensor to its first: the last convolution is used twice."""
SEGMENTATION, KEYPOINTS = "rgbd_seg_layer.3.conv.weight", "kp_ofst_layer.3.conv.weight"
YCB_CLASSES, LINEMOD_CLASSES = 22, 2
DATASETS = {YCB_CLASSES: "ycb", LINEMOD_CLASSES: "linemod"}
"""The originals' datasets by their number of classes."""
STEPS, BEST = ("it", "global_step", "step", "iteration"), ("best_prec", "best_model_score")
"""Entries with the number of steps, and with the best loss."""
BACKBONE = ("ResNet-34", "pose")
"""torchvision's network of the colour branch, and its task."""
LOSS_SCALE = {"loss_scaler0": {"loss_scale": 1.0, "unskipped": 0}}
"""State of apex at level O0; the original's YCB-Video script requires such an entry."""


def identify_network(contents: CheckpointContents) -> NetworkInfo | None:
    """Describe the FFB6D in a file; None where there is none."""
    heads = (SEGMENTATION, KEYPOINTS)
    weights = contents.weights
    roles = [r for r, s in weights.items() if all(k in s and s[k].dim() == 3 for k in heads)]
    if not roles:
        return None
    role, state = roles[0], weights[roles[0]]
    classes, offsets = state[SEGMENTATION].shape[0], state[KEYPOINTS].shape[0]
    facts: dict[str, Any] = {"classes": classes, "keypoints": offsets // 3}
    unknown = [("VOTE.*, MODEL.POINTS", "the recipe; not stored in the weights")]
    if classes == LINEMOD_CLASSES:
        unknown.insert(0, ("object", "DATA.CLS NAME here, or --cls NAME in eval"))
    elif classes != YCB_CLASSES:
        unknown.insert(0, ("object names", "the dataset; it must have the same number of objects"))
    if classes in DATASETS:
        facts["data set"] = DATASETS[classes]
    return NetworkInfo(task="pose", name="FFB6D", facts=facts, unknown=tuple(unknown), role=role)


def build(info: NetworkInfo, cfg: CfgNode) -> nn.Module:
    """Build the network that `info` describes; no setting changes it."""
    with torch.random.fork_rng(devices=[]):  # loading a file must not change random numbers
        return FFB6D(int(info.facts["classes"]), int(info.facts["keypoints"]))


def run(net: nn.Module, cfg: CfgNode) -> dict[str, Tensor]:
    """Run one forward on a random frame, as small as FFB6D allows; outputs by name."""
    rng = np.random.RandomState(0)
    frame = Frame(
        name="random",
        rgb=rng.randint(256, size=(32, 32, 3)).astype(np.uint8),
        depth=rng.uniform(0.5, 1.5, (32, 32)).astype(np.float32),
        depth_scale=1.0,
        labels=np.zeros((32, 32), np.int32),
        intrinsics=np.array([[32, 0, 16], [0, 32, 16], [0, 0, 1]], np.float64),
    )
    sample = make_sample(frame, ycb_objects(), points=1024, rng=rng, fill_holes=False)
    assert isinstance(sample, Sample)
    inputs = collate([sample]).inputs.to(torch.device("cpu"))
    with torch.inference_mode():
        outputs: Outputs = net.eval()(inputs)
    return vars(outputs)


def to_ffreid(
    contents: CheckpointContents, info: NetworkInfo, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Convert to ffreid's layout; also return notes.

    `settings` are the user's, by dotted key; ``DATA.CLS`` is LineMOD's object.
    """
    count, chosen = int(info.facts["classes"]) - 1, settings.get("DATA.CLS", "")
    names = linemod_names(chosen) if chosen else ()
    if chosen and count != len(names):
        raise UserError(
            f"DATA.CLS is {chosen}, but the file's network is for {count} objects",
            "remove DATA.CLS (or --cls), or name all objects of the network",
        )
    classes: dict[str, Any] = {"class_count": count}
    if names:
        classes["classes"] = list(names)
    elif count == YCB_CLASSES - 1:
        classes["classes"] = list(ycb_objects().names)
    state, notes = repair_state(contents.weights[info.role], ALIASES)
    numbers = contents.numbers
    checkpoint: dict[str, Any] = {
        "task": "pose",
        "dataset": info.facts.get("data set"),
        **classes,
        "step": contents.first_count(STEPS),
        "best": next((numbers[name] for name in BEST if name in numbers), None),
        "converted": {"from": contents.kind, **numbers},
        "config": checkpoints.settings_as_yaml({**info.settings, **settings}),
        "parts": {"net": state},
    }
    with torch.device("meta"):  # only its names and shapes are needed
        net = build(info, CfgNode())
    for name, optimiser in contents.optimisers.items():
        matched, problem = match_optimiser(optimiser, net, contents.weights[info.role])
        if matched is not None:
            checkpoint["optimisers"] = {"net": matched}
            break
        notes.append(f"{name} is dropped: {problem}")
    if "ema" in contents.weights and info.role != "ema":
        notes.append(checkpoints.EMA_NOTE)
    return checkpoint, notes


def to_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Convert from ffreid's layout to that of the original's scripts.

    Keys in their order, the last convolution under both names; Adam's state if there is one.
    """
    optimiser = state.get("optimisers", {}).get("net")
    best = state.get("best")
    return {
        "epoch": state.get("converted", {}).get("epoch", 0),  # their training does not read it
        "it": state.get("step") or 0,
        "best_prec": 1e10 if best is None else best,
        "model_state": OrderedDict(state["parts"]["net"]),
        "optimizer_state": None if optimiser is None else to_old_optimiser(optimiser),
        "amp": LOSS_SCALE,
    }


def convert_any(raw: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Convert any checkpoint to ffreid's layout; also return a note if it was another's."""
    return checkpoints.convert_any(raw, path, "pose", "FFB6D", identify_network, to_ffreid)
