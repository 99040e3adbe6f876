"""FFB6D's checkpoints, whoever wrote them, as ours; and ours as the authors' code reads them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine.checkpoints import contents
from ffreid.engine.checkpoints.contents import CheckpointContents, Facts
from ffreid.engine.checkpoints.repair import fitted_optimiser, mended, old_optimiser
from ffreid.errors import UserError
from ffreid.pose.data.batch import Inputs
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.objects import linemod_objects, ycb_objects

ALIASES = {
    f"cnn_up_stages.3.1.0.{name}": f"cnn_up_stages.2.0.0.{name}" for name in ("weight", "bias")
}
"""Second name of a tensor to its first: the last convolution serves twice."""
SEGMENTATION, KEYPOINTS = "rgbd_seg_layer.3.conv.weight", "kp_ofst_layer.3.conv.weight"
YCB_CLASSES, LINEMOD_CLASSES = 22, 2
STEPS, BEST = ("it", "global_step", "step", "iteration"), ("best_prec", "best_model_score")
"""What files call the steps taken, and the best loss."""
BACKBONE = ("ResNet-34", "pose")
"""torchvision's network of the colour branch, and whose it is."""
LOSS_SCALE = {"loss_scaler0": {"loss_scale": 1.0, "unskipped": 0}}
"""What apex keeps at the authors' level O0; their YCB-Video script wants such an entry."""


def claims(found: CheckpointContents) -> Facts | None:
    """Say what a file tells of an FFB6D; None where it holds none."""
    role = next((role for role in found.weights if _is_ffb6d(found.weights[role])), None)
    if role is None:
        return None
    state = found.weights[role]
    classes, offsets = state[SEGMENTATION].shape[0], state[KEYPOINTS].shape[0]
    unsaid = [("VOTE.*, MODEL.POINTS", "no part of the weights: the recipe")]
    if classes == LINEMOD_CLASSES:
        where = "LineMOD's files do not name it: DATA.CLS NAME here, or --cls NAME in eval"
        unsaid.insert(0, ("the object", where))
    elif classes != YCB_CLASSES:
        unsaid.insert(0, ("the objects' names", "the data set, whose objects must be as many"))
    return Facts(
        task="pose",
        network="FFB6D",
        told={"classes": classes, "keypoints": offsets // 3, **_data_set(classes)},
        unsaid=tuple(unsaid),
        role=role,
    )


def _is_ffb6d(state: Mapping[str, Tensor]) -> bool:
    return all(key in state and state[key].dim() == 3 for key in (SEGMENTATION, KEYPOINTS))


def _data_set(classes: int) -> dict[str, str]:
    """The data set that has so many classes, as far as the authors' two go."""
    names = {YCB_CLASSES: "ycb", LINEMOD_CLASSES: "linemod"}
    return {"data set": names[classes]} if classes in names else {}


def build(facts: Facts, settings: CfgNode) -> nn.Module:
    """Make the network that `facts` tell of; no setting shapes it."""
    with torch.random.fork_rng(devices=[]):  # whoever loads a file goes on drawing as before
        return FFB6D(int(facts.told["classes"]), int(facts.told["keypoints"]))


def run(net: nn.Module, settings: CfgNode) -> dict[str, Tensor]:
    """Run one forward on made-up input; give what comes out, by name."""
    with torch.inference_mode():
        outputs = net.eval()(_toy_inputs())
    return {name: getattr(outputs, name) for name in outputs.__dataclass_fields__}


def _toy_inputs(side: int = 32, points: int = 1024, neighbours: int = 16) -> Inputs:
    """One frame of noise whose indices are random, as small as the network allows."""
    draw = torch.Generator().manual_seed(0)
    counts = [points // 4**level for level in range(5)]

    def pick(limit: int, rows: int, columns: int) -> Tensor:
        return torch.randint(limit, (1, rows, columns), generator=draw)

    pixels = [(side // stride) ** 2 for stride in (4, 8, 8, 8)]
    up = [(side // stride) ** 2 for stride in (4, 2, 2)]
    return Inputs(
        rgb=255 * torch.rand(1, 3, side, side, generator=draw),
        features=torch.rand(1, 9, points, generator=draw),
        choose=torch.randint(side * side, (1, points), generator=draw),
        neighbours=tuple(pick(count, count, neighbours) for count in counts[:4]),
        nearest_kept=tuple(pick(counts[i + 1], counts[i], 1) for i in range(4)),
        pixels_down=tuple(pick(pixels[i], counts[i + 1], neighbours) for i in range(4)),
        points_down=tuple(pick(counts[i + 1], pixels[i], 1) for i in range(4)),
        pixels_up=tuple(pick(up[i], counts[3 - i], neighbours) for i in range(3)),
        points_up=tuple(pick(counts[3 - i], up[i], 1) for i in range(3)),
    )


def repaired(found: CheckpointContents, facts: Facts) -> tuple[dict[str, Tensor], list[str]]:
    """Give the network's state dict under today's names, and what was done to it."""
    return mended(found.weights[facts.role], ALIASES)


def to_ours(
    found: CheckpointContents, facts: Facts, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Give a checkpoint in our layout, and what is worth a word.

    Args:
        found: what the file holds.
        facts: what that tells.
        settings: given ones by dotted key; ``DATA.CLS`` is LineMOD's object.

    Raises:
        UserError: ``DATA.CLS`` is no object, or the network is not of one.
    """
    state, notes = repaired(found, facts)
    ours: dict[str, Any] = {"task": "pose", "dataset": facts.told.get("data set")}
    ours |= _classes(facts, settings.get("DATA.CLS", ""))
    ours["step"] = contents.whole(found, STEPS)
    ours["best"] = next((found.numbers[name] for name in BEST if name in found.numbers), None)
    ours["converted"] = {"from": found.kind, **found.numbers}
    ours["config"] = contents.as_yaml({**facts.settings, **settings})
    ours["parts"] = {"net": state}
    ours |= _optimisers(found, facts, notes)
    if "ema" in found.weights and facts.role != "ema":
        notes.append(contents.AVERAGED_COPY)
    return ours, notes


def _classes(facts: Facts, name: str) -> dict[str, Any]:
    """What the network tells apart, without the background."""
    count = int(facts.told["classes"]) - 1
    if name and count != 1:
        raise UserError(
            f"DATA.CLS is {name}, the file holds a network for {count} objects",
            "leave DATA.CLS (or --cls) out; LineMOD's networks know one object",
        )
    known: dict[str, Any] = {"class_count": count}
    if name:
        return known | {"classes": list(linemod_objects(name).names)}
    if count == YCB_CLASSES - 1:
        return known | {"classes": list(ycb_objects().names)}
    return known


def _optimisers(found: CheckpointContents, facts: Facts, notes: list[str]) -> dict[str, Any]:
    with torch.device("meta"):  # its names and shapes are wanted alone
        net = build(facts, CfgNode())
    for name, optimiser in found.optimisers.items():
        fitted, why = fitted_optimiser(optimiser, net, found.weights[facts.role])
        if fitted is not None:
            return {"optimisers": {"net": fitted}}
        notes.append(f"{name} is not taken over: {why}")
    return {}


def to_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Give a checkpoint of ours as the authors' scripts write and read it.

    Their keys in their order, the last convolution under both names; Adam's state where there is
    one.
    """
    optimiser = state.get("optimisers", {}).get("net")
    numbers = state.get("converted", {})
    best = state.get("best")
    return {
        "epoch": numbers.get("epoch", 0),  # which their loops do not read
        "it": state.get("step") or 0,
        "best_prec": 1e10 if best is None else best,
        "model_state": OrderedDict(state["parts"]["net"]),
        "optimizer_state": None if optimiser is None else old_optimiser(optimiser),
        "amp": LOSS_SCALE,
    }


def known_as(state: Mapping[str, Any], names: Sequence[str], origin: Path) -> dict[str, Any]:
    """Give a converted checkpoint the classes that its file does not name.

    Args:
        state: of our layout.
        names: the data set's objects.
        origin: its file.

    Raises:
        UserError: it knows another number of objects.
    """
    count = state.get("class_count")
    if "classes" in state or count is None:
        return dict(state)
    if count != len(names):
        raise UserError(
            f"{origin} knows {count} objects, the data set {len(names)}",
            "give the checkpoint of this data set (and, for LineMOD, of this --cls)",
        )
    return {**state, "classes": list(names)}


def converted(raw: Mapping[str, Any], origin: Path) -> tuple[dict[str, Any], str]:
    """Give a checkpoint of anyone's in our layout, in memory, and the line to say of it.

    Raises:
        UserError: it holds no FFB6D.
    """
    if (own := contents.own(raw, origin, task="pose", network="FFB6D")) is not None:
        return own, ""
    found = contents.identify(raw)
    facts = claims(found)
    if facts is None:
        raise contents.holds_no("FFB6D", origin)
    ours, notes = to_ours(found, facts, {})
    told = f"FFB6D of {facts.told['classes']} classes, {facts.told['keypoints']} keypoints"
    return ours, contents.taken_as(told, found, origin, notes)
