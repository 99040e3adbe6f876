"""The data sets of pose by layout: readers, objects, meshes and toy data."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from yacs.config import CfgNode

from ffreid.engine import synthetic
from ffreid.engine.dataset_files import find_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.dataset import Reader
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.ply import mesh_vertices
from ffreid.pose.data.sample import make_ground_truth
from ffreid.pose.data.ycb import OWN_NAMES, TREE, YcbReader, mesh_points, read_poses
from ffreid.pose.defaults import check_root
from ffreid.pose.objects import ObjectModels, folder_objects, linemod_objects, ycb_objects
from ffreid.pose.toy.dataset import ensure_toy

Meshes = Mapping[int, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """One data set, opened: its reader, its objects, and the folder that holds the meshes."""

    reader: Reader
    objects: ObjectModels
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
    with ProgressBar("rendering toy frames") as bar:
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


def synthetic_folder(cfg: CfgNode) -> Path | None:
    """Where the data are that are made on first use; None for those that are not."""
    return toy_folder(cfg) if cfg.DATA.LAYOUT == "toy" else None


def toy_folder(cfg: CfgNode) -> Path:
    """Where the toy data lie: a folder for each size and seed."""
    toy = cfg.DATA.TOY
    name = f"{toy.TRAIN}-{toy.TEST}-{toy.SYNTHETIC}-{toy.HEIGHT}x{toy.WIDTH}-{toy.SEED}"
    return synthetic.toy_folder(cfg.DATA.ROOT, cfg.DATASET, name)


def _ycb_reader(cfg: CfgNode, folder: Path, objects: ObjectModels) -> YcbReader:
    return YcbReader(folder, objects, intrinsics=cfg.DATA.INTRINSICS, **_lists(cfg))


def _lists(cfg: CfgNode) -> dict[str, Path | None]:
    given = {"train_list": cfg.DATA.TRAIN_LIST, "test_list": cfg.DATA.TEST_LIST}
    return {name: Path(path) if path else None for name, path in given.items()}


def ycb_meshes(folder: Path, objects: ObjectModels) -> Meshes:
    """Points of YCB-Video's objects below `folder`, which need hold nothing but ``models/``."""
    return mesh_points(find_folder(folder, OWN_NAMES, ("models",), TREE), objects)


def ycb_truths(folder: Path, objects: ObjectModels, frames: Path | None) -> list[GroundTruth]:
    """True poses from the meta.mat files of the frames listed in `frames`, or of the test list."""
    reader = YcbReader(folder, objects, test_list=frames)
    gts = []
    for index, listed in enumerate(reader.test_names):
        name = listed if listed.startswith("data") else f"data/{listed}"
        class_ids, poses = read_poses(reader.folder, name, objects)
        gts.append(make_ground_truth(name, class_ids, poses, objects, index=index))
    return gts


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
