"""What the configuration names: data set, meshes, network, optimiser, voting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ffreid.config import differing
from ffreid.engine import checkpoint, dist, made, norm, optimisers
from ffreid.engine.files import find_folder
from ffreid.engine.precision import dtype
from ffreid.engine.schedules import triangular
from ffreid.engine.task import Plan, Task
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError
from ffreid.pose import convert
from ffreid.pose.data.batch import Truth, collate, collate_for_evaluation
from ffreid.pose.data.dataset import EvalSet, Reader, TrainSet
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.ply import mesh_vertices
from ffreid.pose.data.sample import place_objects
from ffreid.pose.data.ycb import OWN_NAMES, TREE, YcbReader, mesh_points, read_poses
from ffreid.pose.defaults import check_root
from ffreid.pose.estimate import Voting
from ffreid.pose.model.backbone import load_backbone
from ffreid.pose.model.ffb6d import FFB6D, set_point_momentum
from ffreid.pose.objects import ObjectSet, folder_objects, linemod_objects, ycb_objects
from ffreid.pose.task import PoseTask
from ffreid.pose.toy import ensure_toy
from ffreid.report import Bar, say

__all__ = ["collate", "collate_for_evaluation"]  # the runner takes them from here

FREE_TO_CHANGE = ("DATA.WORKERS", "TRAIN.EVAL_POSES", "VOTE.")
"""Settings that a resumed run may have otherwise: they don't change what is trained."""

Meshes = Mapping[int, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """One data set, opened: its reader, its objects, and the folder that holds the meshes."""

    reader: Reader
    objects: ObjectSet
    folder: Path

    def summary(self) -> str:
        """Say in a line which frames there are and whose lists they follow."""
        return self.reader.summary()

    @cached_property
    def meshes(self) -> Meshes:
        """Points of every object, (P, 3) metres by class id."""
        if self.objects.dataset == "linemod":
            return {1: mesh_vertices(self.folder, self.objects.numbers[0])}
        return mesh_points(self.folder, self.objects)


def open_source(cfg: CfgNode) -> Source:
    """Open the data set that the configuration names.

    Raises:
        UserError: no root is given, or it holds no such data set.
    """
    check_root(cfg)
    return LAYOUTS[cfg.DATA.LAYOUT](cfg)


def _ycb(cfg: CfgNode) -> Source:
    objects = ycb_objects()
    reader = _ycb_reader(cfg, Path(cfg.DATA.ROOT), objects)
    return Source(reader, objects, reader.folder)


def _linemod(cfg: CfgNode) -> Source:
    objects = linemod_objects(cfg.DATA.CLS)
    reader = LinemodReader(Path(cfg.DATA.ROOT), objects, **_lists(cfg))
    return Source(reader, objects, reader.folder)


def _toy(cfg: CfgNode) -> Source:
    """Render the toy data on first use; of several processes only the first renders."""
    toy = cfg.DATA.TOY
    folder = toy_folder(cfg)
    with Bar("rendering toy frames") as bar:
        ensure_toy(
            folder,
            frames=toy.TRAIN,
            test_frames=toy.TEST,
            synthetic=toy.SYNTHETIC,
            height=toy.HEIGHT,
            width=toy.WIDTH,
            seed=toy.SEED,
            progress=bar.update,
        )
    objects = folder_objects(cfg.DATASET, folder)
    reader = _ycb_reader(cfg, folder, objects)
    return Source(reader, objects, reader.folder)


def made_folder(cfg: CfgNode) -> Path | None:
    """Where the data are that are made on first use; None for those that are not."""
    return toy_folder(cfg) if cfg.DATA.LAYOUT == "toy" else None


def toy_folder(cfg: CfgNode) -> Path:
    """Where the toy data lie: a folder for each size and seed."""
    toy = cfg.DATA.TOY
    name = f"{toy.TRAIN}-{toy.TEST}-{toy.SYNTHETIC}-{toy.HEIGHT}x{toy.WIDTH}-{toy.SEED}"
    return made.home(cfg.DATA.ROOT, cfg.OUTPUT, cfg.DATASET, name)


def _ycb_reader(cfg: CfgNode, folder: Path, objects: ObjectSet) -> YcbReader:
    return YcbReader(folder, objects, intrinsics=cfg.DATA.INTRINSICS, **_lists(cfg))


def _lists(cfg: CfgNode) -> dict[str, Path | None]:
    given = {"train_list": cfg.DATA.TRAIN_LIST, "test_list": cfg.DATA.TEST_LIST}
    return {name: Path(path) if path else None for name, path in given.items()}


def ycb_meshes(folder: Path, objects: ObjectSet) -> Meshes:
    """Points of YCB-Video's objects below `folder`, which need hold nothing but ``models/``."""
    return mesh_points(find_folder(folder, OWN_NAMES, ("models",), TREE), objects)


def ycb_truths(folder: Path, objects: ObjectSet, frames: Path | None) -> list[Truth]:
    """True poses from the meta.mat files of the frames listed in `frames`, or of the test list."""
    reader = YcbReader(folder, objects, test_list=frames)
    truths = []
    for index, listed in enumerate(reader.test_names):
        name = listed if listed.startswith("data") else f"data/{listed}"
        class_ids, poses = read_poses(reader.folder, name, objects)
        truths.append(place_objects(name, class_ids, poses, objects, index=index))
    return truths


LAYOUTS = {"ycb": _ycb, "linemod": _linemod, "toy": _toy}


def check_source(cfg: CfgNode, source: Source) -> None:
    """Read now what pictures need at evaluations, and scores when training has ended.

    Raises:
        UserError: a mesh is missing or in another unit.
    """
    if cfg.TRAIN.EVAL_POSES or cfg.TRAIN.TENSORBOARD:  # whose pictures show meshes
        assert len(source.meshes) == len(source.objects)


def notes(cfg: CfgNode, source: Source) -> list[str]:
    """Say what people should know of the data set and the settings: nothing."""
    return []


def class_names(source: Source) -> list[str]:
    """What training tells apart, for checkpoints."""
    return list(source.objects.names)


def training_set(cfg: CfgNode, source: Source) -> TrainSet:
    """The samples to train on; `len` is the samples an epoch."""
    names = cfg.DATA.OVERFIT or source.reader.train_names
    return TrainSet(
        source.reader,
        source.objects,
        points=cfg.MODEL.POINTS,
        length=cfg.TRAIN.LENGTH or max(len(names), cfg.TRAIN.BATCH),
        seed=cfg.SEED,
        shrink=cfg.DATA.SHRINK,
        augment=cfg.DATA.AUGMENT,
        fixed=cfg.DATA.OVERFIT,
    )


def evaluation_set(cfg: CfgNode, source: Source, limit: int) -> EvalSet:
    """The test frames (the first `limit`, 0 is all), or those that training overfits."""
    names = cfg.DATA.OVERFIT or source.reader.test_names
    return EvalSet(
        source.reader,
        source.objects,
        names=names[:limit] if limit else names,
        points=cfg.MODEL.POINTS,
        seed=cfg.SEED,
        shrink=cfg.DATA.SHRINK,
    )


def build_task(
    cfg: CfgNode, source: Source, device: torch.device, *, resumed: bool = False
) -> PoseTask:
    """Make network and losses on `device`, the backbone with the weights that are asked for.

    A resumed run replaces all weights: it needs none of ImageNet's.
    """
    torch.manual_seed(cfg.SEED)
    objects = source.objects
    net: nn.Module = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
    load_backbone(net, "random" if resumed else cfg.MODEL.BACKBONE)
    set_point_momentum(net, cfg.MODEL.POINT_MOMENTUM)
    if not cfg.MODEL.DROPOUT:
        _without_dropout(net)
    if cfg.TRAIN.BATCH_NORM == "sync" and dist.size() > 1:
        net = norm.synchronise(net, device)
    task = PoseTask(
        net,
        offset_samples=cfg.LOSS.OFFSET_SAMPLES,
        frozen=cfg.TRAIN.BATCH_NORM == "frozen",
        momentum_batch=cfg.LOSS.OFFSET_SAMPLES if cfg.TRAIN.BN_MOMENTUM_SCHEDULE else None,
    )
    return task.to(device, dtype(cfg))


def _without_dropout(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0


def load_network(path: Path, objects: ObjectSet, device: torch.device) -> tuple[nn.Module, Any]:
    """Make the network for `objects` and load anyone's checkpoint; also give the checkpoint.

    Raises:
        UserError: the file is unreadable, or another network's.
    """
    state, line = convert.converted(checkpoint.load(path), path)
    if line and dist.rank() == 0:
        say(line)
    state = convert.known_as(state, objects.names, path)
    weights = state.get("parts", {}).get("net")
    if weights is None:
        raise UserError(f"{path} holds no FFB6D of ours", "give a best.pth or last.pth of a run")
    classes = state.get("classes")
    if classes != list(objects.names):
        raise UserError(
            f"{path} knows {len(classes or [])} objects ({_short(classes)}), "
            f"the data set {len(objects)} ({_short(list(objects.names))})",
            "give the checkpoint of this data set (and, for LineMOD, of this --cls)",
        )
    net = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
    checkpoint.load_weights(net, weights, str(path))
    return net.to(device).eval(), state


def told_otherwise(cfg: CfgNode, state: Mapping[str, Any]) -> list[str]:
    """Say in which settings, that change what a network sees, its checkpoint differs."""
    return [
        f"trained with {key} {then}, evaluated with {now}"
        for key, then, now in differing(cfg, state.get("config", "{}"))
        if key in ("DATA.SHRINK", "DATA.INTRINSICS", "MODEL.POINTS")
    ]


def _short(names: list[str] | None) -> str:
    return ", ".join((names or [])[:3]) + (", …" if len(names or []) > 3 else "")


def build_optimisers(cfg: CfgNode, task: Task) -> dict[str, Optimizer]:
    """Adam, as the authors use it."""
    return {
        "net": optimisers.make(
            "adam",
            task.get_submodule("net").parameters(),
            lr=cfg.TRAIN.LR_MIN,
            weight_decay=cfg.TRAIN.WEIGHT_DECAY,
            fused=cfg.TRAIN.FUSED,
        )
    }


def plan(cfg: CfgNode, data: TrainSet) -> Plan:
    """How long training is; the authors' run length rounds its epochs as a whole."""
    batch = cfg.TRAIN.BATCH
    return Plan(
        batch=batch,
        steps_per_epoch=max(1, len(data) // batch),
        total=cfg.TRAIN.STEPS or max(1, cfg.TRAIN.EPOCHS * len(data) // batch),
        workers=cfg.DATA.WORKERS,
    )


def rates(cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
    """Learning rates as functions of the step: the authors' scheduler lags one step behind."""
    train = cfg.TRAIN

    def net(step: int) -> float:
        return triangular(
            max(0, step - 1),
            low=train.LR_MIN,
            high=train.LR_MAX,
            half_period=plan.total // train.CYCLE_DIVISOR,
        )

    return {"net": net}


def original_entries(trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> dict[str, Any]:
    """What checkpoints hold further under names of the original: nothing yet."""
    return {}


def voting(cfg: CfgNode) -> Voting:
    """How offsets become poses."""
    return Voting(
        bandwidth=cfg.VOTE.BANDWIDTH,
        use_centre=cfg.VOTE.USE_CENTRE,
        filter_clusters=cfg.VOTE.FILTER,
        relabel=cfg.VOTE.FILTER and cfg.DATA.LAYOUT != "linemod",
        max_votes=cfg.VOTE.MAX_POINTS or None,
    )
