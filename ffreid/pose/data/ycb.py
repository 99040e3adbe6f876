"""YCB-Video and datasets in its layout.

A frame is ``data/SSSS/FFFFFF-{color.png,depth.png,label.png,meta.mat}`` (photographed) or
``data_syn/FFFFFF-…`` (rendered); meta.mat holds ``cls_indexes`` (M, 1), ``poses`` (3, 4, M) in
metres, ``factor_depth`` (units per metre) and, in the original release, ``intrinsic_matrix``.
"""

import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from math import prod
from pathlib import Path
from posixpath import normpath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat, whosmat

from ffreid.engine.dataset_files import (
    as_on_disk,
    describe_folder,
    find_folder,
    read_image,
    read_lines,
    read_single_channel,
)
from ffreid.errors import UserError, flat
from ffreid.files import check_file
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import (
    Frame,
    camera_matrix,
    check_poses,
    check_same_size,
    check_unique,
)
from ffreid.pose.data.meshes import Meshes, read_xyz_meshes
from ffreid.pose.defaults import LAYOUTS
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

FOLDER_NAMES = ("ycb/YCB_Video_Dataset", "YCB_Video_Dataset", "ycb", "YCB-Video", "ycbv")
LAYOUT = LAYOUTS["ycb"].files
# Of the release's training list every seventh frame of a sequence: neighbours look alike.
FRAME_STEP = 7
# From this sequence on another camera was used.
SECOND_CAMERA = 60
META = ("cls_indexes", "poses", "factor_depth", "intrinsic_matrix")
"""What is read of a meta.mat file; a small one may claim any size."""
MAX_ITEMS = 10**6


def is_authors_list(lines: Sequence[str], split: Literal["train", "test"]) -> bool:
    """Whether a frame list is the one the FFB6D authors trained or tested with."""
    facts = resource("ycb")["lists"][split]
    checksum = zlib.crc32("\n".join(lines).encode())
    return (len(lines), checksum) == (facts["lines"], facts["crc32"])


class YcbReader:
    """Frames of YCB-Video, or of a dataset in its layout.

    Frame lists: the files given; or ``dataset_config/{train,test}_data_list.txt`` in the folder or
    its parent; or the release's ``image_sets``: all of ``keyframe.txt`` to test, and to train
    every seventh frame of each sequence in ``train.txt`` with all of ``data_syn``. Lists are read
    when first used: testing needs no training list.

    `folder` is the dataset's folder or its parent. `intrinsics` are ``ycb`` for the two cameras of
    YCB-Video by sequence number, ``meta`` for every frame's ``intrinsic_matrix``. Lists have a
    frame per line, e.g. ``data/0001/000001``.
    """

    policy: Policy = "ycb"
    fill_holes = True

    def __init__(
        self,
        folder: Path,
        objects: ObjectModels,
        *,
        intrinsics: Literal["ycb", "meta"] = "ycb",
        train_list: Path | None = None,
        test_list: Path | None = None,
    ) -> None:
        self.folder = find_folder(folder, FOLDER_NAMES, ("data", "data_syn"), LAYOUT)
        self.objects = objects
        self.intrinsics = intrinsics
        self.train_list, self.test_list = train_list, test_list

    @cached_property
    def train_names(self) -> list[str]:
        """Training frames."""
        return self._frame_list("train", self.train_list)

    @cached_property
    def test_names(self) -> list[str]:
        """Test frames."""
        return self._frame_list("test", self.test_list)

    @cached_property
    def real_train_names(self) -> list[str]:
        """Photographed training frames."""
        return [name for name in self.train_names if not name.startswith("data_syn")]

    @cached_property
    def synthetic_train_names(self) -> list[str]:
        """Rendered training frames."""
        return [name for name in self.train_names if name.startswith("data_syn")]

    def summary(self) -> str:
        """One line on the frames and whether the lists are the authors'."""
        train = f"{len(self.real_train_names)} real and {len(self.synthetic_train_names)} rendered"
        texts = {
            f"{train} training frames": is_authors_list(self.train_names, "train"),
            f"{len(self.test_names)} test frames": is_authors_list(self.test_names, "test"),
        }
        if self.objects.dataset != "ycb":
            return ", ".join(texts)
        source = {True: "the authors' list", False: "not the authors' list"}
        return ", ".join(f"{text} ({source[authors]})" for text, authors in texts.items())

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame: real in 20 % of the cases, where both kinds exist."""
        real, synthetic = self.real_train_names, self.synthetic_train_names
        if not synthetic or (real and rng.rand() > 0.8):
            return self.draw_real(rng)
        return synthetic[rng.randint(0, len(synthetic))]

    def draw_real(self, rng: np.random.RandomState) -> str:
        """Draw a photographed training frame."""
        return self.real_train_names[rng.randint(0, len(self.real_train_names))]

    def read(self, name: str) -> Frame:
        """Read a frame, e.g. ``data/0048/000001``."""
        *paths, path = self.files(name)
        rgb = read_image(paths[0], registered=True)
        depth = read_single_channel(paths[1], "depth image")
        labels = read_single_channel(paths[2], "label image", first_of_several=True)
        labels = labels.astype(np.int32)
        check_same_size(dict(zip(paths, (rgb, depth, labels), strict=True)))
        _check_ids(paths[2], labels, self.objects, lowest=0)
        meta = _read_meta(path, self.intrinsics == "meta")
        class_ids, poses = read_poses(path, self.objects, meta)
        depth_scale = np.asarray(meta["factor_depth"], np.float64).reshape(-1)
        if depth_scale.size != 1 or not 1 <= depth_scale[0] < np.inf:
            raise UserError(
                f"{path}: factor_depth is {meta['factor_depth']!s}",
                "store the number of depth units per metre, e.g. 1000 for millimetres",
            )
        stored = camera_matrix(meta.get("intrinsic_matrix"))
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth.astype(np.float32),
            depth_scale=float(depth_scale[0]),
            labels=labels,
            intrinsics=self._intrinsics(name, path, stored),
            class_ids=class_ids,
            camera_from_object=poses,
            synthetic=name.startswith("data_syn"),
            stored_intrinsics=stored,
        )

    def files(self, name: str) -> list[Path]:
        """Colour, depth, labels and meta.mat of a frame."""
        parts = ("color.png", "depth.png", "label.png", "meta.mat")
        return [self.folder / f"{name}-{part}" for part in parts]

    def read_meshes(self) -> Meshes:
        """Read the vertices of the objects that have a mesh."""
        return read_xyz_meshes(self.folder, self.objects)

    def _intrinsics(
        self, name: str, path: Path, stored: npt.NDArray[np.float64] | None
    ) -> npt.NDArray[np.float64]:
        if self.intrinsics == "meta":
            if stored is None:
                raise UserError(
                    f"{path}: intrinsic_matrix is not a camera matrix",
                    "store [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], in pixels",
                )
            return stored
        sequence = name.split("/")[1] if name.startswith("data/") else "0"
        camera = "K2" if sequence.isdigit() and int(sequence) >= SECOND_CAMERA else "K1"
        return np.array(resource("ycb")["intrinsics"][camera], np.float64)

    def _frame_list(self, split: Literal["train", "test"], path: Path | None) -> list[str]:
        config = f"dataset_config/{split}_data_list.txt"
        candidates = (self.folder / config, self.folder.parent / config)
        path = path or next(filter(os.path.lexists, candidates), None)
        if path is not None:
            return _read_names(path, self.folder, split)
        path = self.folder / "image_sets" / ("train.txt" if split == "train" else "keyframe.txt")
        if not os.path.lexists(path):
            raise UserError(
                f"no list of {split} frames: neither {self.folder / config} nor {path}; "
                f"{describe_folder(self.folder)}",
                f"expected {LAYOUT}",
            )
        names = _read_names(path, self.folder, split)
        if split == "test":
            return names
        sequences = [list(group) for _, group in groupby(names, lambda n: n.rpartition("/")[0])]
        real = [name for sequence in sequences for name in sequence[::FRAME_STEP]]
        rendered = sorted((self.folder / "data_syn").glob("*-color.png"))
        return real + [f"data_syn/{path.name.removesuffix('-color.png')}" for path in rendered]


def _read_names(path: Path, folder: Path, split: Literal["train", "test"]) -> list[str]:
    """Frame names of a list file; in the release's lists they lack ``data/``."""
    lines = map(normpath, read_lines(path))
    names = [line if line.startswith("data") else f"data/{line}" for line in lines]
    if not all(map(str.isascii, names)):
        files = as_on_disk(folder, [f"{name}-color.png" for name in names])
        names = [file.removesuffix("-color.png") for file in files]
    if split == "test":
        check_unique(path, names)
    return names


def read_poses(
    path: Path, objects: ObjectModels, meta: dict[str, Any] | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Class ids (M,) and poses (M, 3, 4), metres, of a meta.mat file, or of its contents `meta`."""
    meta = _read_meta(path, False) if meta is None else meta
    try:
        class_ids = np.asarray(meta["cls_indexes"]).reshape(-1).astype(np.int32)
        poses = np.asarray(meta["poses"], np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: cls_indexes or poses are not numbers",
            "store (objects, 1) and (3, 4, objects)",
        ) from error
    _check_ids(path, class_ids, objects, lowest=1)
    count = len(class_ids)
    if count == 0:
        return class_ids, np.zeros((0, 3, 4), np.float32)
    if poses.ndim == 2 and count == 1:  # Matlab drops a last axis of length 1
        poses = poses[..., None]
    if poses.shape != (3, 4, count):
        raise UserError(
            f"{path}: poses have shape {poses.shape} for {count} objects", "store (3, 4, objects)"
        )
    poses = poses.transpose(2, 0, 1)
    check_poses(path, poses)
    return class_ids, np.ascontiguousarray(poses, np.float32)


def _check_ids(
    path: Path, ids: npt.NDArray[np.int32], objects: ObjectModels, *, lowest: int
) -> None:
    if ids.size and (ids.min() < lowest or ids.max() > len(objects)):
        wrong = ids.max() if ids.max() > len(objects) else ids.min()
        raise UserError(
            f"{path}: class id {wrong} is outside {lowest} … {len(objects)}",
            f"{objects.dataset} has {len(objects)} classes: check --dataset and the class list",
        )


def _read_meta(path: Path, needs_camera: bool) -> dict[str, Any]:
    check_file(path, "file", f"expected {LAYOUT}")
    needed = ["cls_indexes", "poses", "factor_depth"] + ["intrinsic_matrix"] * needs_camera
    try:
        sizes = {name: prod(shape) for name, shape, _ in whosmat(path)}
        if large := [name for name in META if sizes.get(name, 0) > MAX_ITEMS]:
            raise ValueError(f"{large[0]} has {sizes[large[0]]:,} numbers")
        meta: dict[str, Any] = loadmat(path, variable_names=META)
    except NotImplementedError as error:  # scipy reads no HDF5
        raise UserError(
            f"{path} is a .mat file of Matlab's version 7.3", "save it with Matlab's option -v7"
        ) from error
    except Exception as error:  # scipy raises errors of many types on a damaged file
        raise UserError(
            f"cannot read {path}: {flat(str(error))}", "the file is damaged: copy it again"
        ) from error
    if missing := [field for field in needed if field not in meta]:
        raise UserError(
            f"{path} lacks {', '.join(missing)} (it has {', '.join(sorted(sizes))})",
            f"a meta.mat file contains {', '.join(needed)}",
        )
    return meta
