"""YCB-Video and sets in its layout.

A frame is ``data/SSSS/FFFFFF-{color.png,depth.png,label.png,meta.mat}`` (photographed) or
``data_syn/FFFFFF-…`` (rendered); meta.mat holds ``cls_indexes`` (M, 1), ``poses`` (3, 4, M) in
metres, ``factor_depth`` (units a metre) and, in the original release, ``intrinsic_matrix``.
"""

import zlib
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from ffreid.engine.dataset_files import find_folder, found, read_lines, read_picture
from ffreid.errors import UserError, flat
from ffreid.pose.data.checks import check_poses, check_same_size, extent
from ffreid.pose.data.frame import Frame
from ffreid.pose.defaults import TREES
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

TREE = TREES["ycb"]
OWN_NAMES = (
    "ycb/YCB_Video_Dataset",
    "YCB_Video_Dataset",
    "ycb",
    "YCB-Video",
    "ycbv",
)
# Of the release's own training list every seventh frame of a sequence: neighbours look alike.
EVERY = 7
# From this sequence on another camera was used.
SECOND_CAMERA = 60


def is_authors_list(lines: Sequence[str], which: Literal["train", "test"]) -> bool:
    """Tell whether a frame list is the one the FFB6D authors trained or tested with."""
    facts = resource("ycb")["lists"][which]
    checksum = zlib.crc32("\n".join(lines).encode())
    return (len(lines), checksum) == (facts["lines"], facts["crc32"])


def mesh_points(folder: Path, objects: ObjectModels) -> dict[int, npt.NDArray[np.float32]]:
    """Read ``models/<class>/points.xyz``: class id to (P, 3) metres, object frame.

    Raises:
        UserError: a file is missing, not rows of x y z, or in millimetres.
    """
    meshes = {}
    for class_id in objects.class_ids:
        path = folder / "models" / objects.name(class_id) / "points.xyz"
        try:
            points = np.loadtxt(path, dtype=np.float32, ndmin=2)
        except FileNotFoundError as error:
            raise UserError(f"no mesh points {path}", f"expected {TREE}") from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: {flat(str(error))}", "a row 'x y z' in metres a point"
            ) from error
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise UserError(f"{path}: not rows of three numbers", "a row 'x y z' in metres a point")
        known, ours = extent(objects.keypoints[class_id - 1]), extent(points)
        if not known / 100 < ours < known * 100:
            raise UserError(
                f"{path}: {ours:g} long where the keypoints span {known:g} metres",
                "metres are expected" + ": divide it by 1000" * (ours > known),
            )
        meshes[class_id] = points
    return meshes


class YcbReader:
    """Frames of YCB-Video, or of a set in its layout.

    Frame lists: the files given; or ``dataset_config/{train,test}_data_list.txt`` in the folder or
    the one above it; or the release's ``image_sets``: all of ``keyframe.txt`` to test, and to train
    every seventh frame of each sequence in ``train.txt`` with all of ``data_syn``.

    Args:
        folder: the data set's own folder or the one that holds it.
        objects: what the class ids mean.
        intrinsics: ``ycb`` for the two cameras of YCB-Video by sequence number, ``meta`` for every
            frame's own ``intrinsic_matrix``.
        train_list: file of training frames, e.g. ``data/0001/000001`` a line.
        test_list: file of test frames.

    Raises:
        UserError: the folder is missing; a list, when it is first asked for.
    """

    policy: Literal["ycb"] = "ycb"
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
        self.folder = find_folder(folder, OWN_NAMES, ("data", "data_syn"), TREE)
        self.objects = objects
        self.intrinsics = intrinsics
        self.train_list, self.test_list = train_list, test_list

    # Lists are looked for when they are asked for: who only tests needs none to train.

    @cached_property
    def train_names(self) -> list[str]:
        """Training frames."""
        return self._find_list("train", self.train_list)

    @cached_property
    def test_names(self) -> list[str]:
        """Test frames."""
        return self._find_list("test", self.test_list)

    @cached_property
    def real_train_names(self) -> list[str]:
        """The photographed ones among the training frames."""
        return [name for name in self.train_names if not name.startswith("data_syn")]

    @cached_property
    def synthetic_train_names(self) -> list[str]:
        """The rendered ones among the training frames."""
        return [name for name in self.train_names if name.startswith("data_syn")]

    def summary(self) -> str:
        """Say in a line which frames there are and whether the lists are the authors'."""
        train = f"{len(self.real_train_names)} real and {len(self.synthetic_train_names)} rendered"
        text = {
            f"{train} training frames": is_authors_list(self.train_names, "train"),
            f"{len(self.test_names)} test frames": is_authors_list(self.test_names, "test"),
        }
        if self.objects.dataset != "ycb":
            return ", ".join(text)
        whose = {True: "the authors' list", False: "not the authors' list"}
        return ", ".join(f"{frames} ({whose[theirs]})" for frames, theirs in text.items())

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
        """Read a frame, e.g. ``data/0048/000001``.

        Raises:
            UserError: a file of the frame is missing, broken or contradicts another.
        """
        paths = [self.folder / f"{name}-{part}.png" for part in ("color", "depth", "label")]
        rgb = read_picture(paths[0], "colour")
        depth = read_picture(paths[1], "depth")
        labels = read_picture(paths[2], "label").astype(np.int32)
        check_same_size(dict(zip(paths, (rgb, depth, labels), strict=True)))
        _check_ids(paths[2], labels, self.objects, lowest=0)
        meta_path = self.folder / f"{name}-meta.mat"
        meta = _read_meta(meta_path, self.intrinsics == "meta")
        class_ids, poses = _objects_in(meta_path, meta, self.objects)
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth.astype(np.float32),
            depth_scale=_depth_scale(meta_path, meta["factor_depth"]),
            labels=labels,
            intrinsics=self._camera(name, meta_path, meta),
            class_ids=class_ids,
            camera_from_object=poses,
            synthetic=name.startswith("data_syn"),
        )

    def _camera(self, name: str, path: Path, meta: dict[str, Any]) -> npt.NDArray[np.float64]:
        if self.intrinsics == "meta":
            matrix = np.asarray(meta["intrinsic_matrix"], np.float64)
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0:
                raise UserError(f"{path}: intrinsic_matrix is no camera matrix", "3 x 3, in pixels")
            return matrix
        sequence = name.split("/")[1] if name.startswith("data/") else "0"
        camera = "K2" if sequence.isdigit() and int(sequence) >= SECOND_CAMERA else "K1"
        return np.array(resource("ycb")["intrinsics"][camera], np.float64)

    def _find_list(self, which: Literal["train", "test"], given: Path | None) -> list[str]:
        if given is not None:
            return _frame_names(given)
        for base in (self.folder, self.folder.parent):
            path = base / "dataset_config" / f"{which}_data_list.txt"
            if path.is_file():
                return _frame_names(path)
        path = self.folder / "image_sets" / ("train.txt" if which == "train" else "keyframe.txt")
        if not path.is_file():
            raise UserError(
                f"no list of {which} frames: neither "
                f"{self.folder / 'dataset_config' / f'{which}_data_list.txt'} nor {path}; "
                f"{found(self.folder)}",
                f"expected {TREE}",
            )
        names = _frame_names(path)
        if which == "test":
            return names
        sequences = [list(group) for _, group in groupby(names, lambda n: n.rpartition("/")[0])]
        real = [name for names_of_one in sequences for name in names_of_one[::EVERY]]
        return real + self._all_synthetic()

    def _all_synthetic(self) -> list[str]:
        found = sorted((self.folder / "data_syn").glob("*-color.png"))
        return [f"data_syn/{path.name.removesuffix('-color.png')}" for path in found]


def _frame_names(path: Path) -> list[str]:
    """Names of a list file; the release's own lists leave out ``data/``."""
    return [line if line.startswith("data") else f"data/{line}" for line in read_lines(path)]


def read_poses(
    folder: Path, name: str, objects: ObjectModels
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Read a frame's class ids (M,) and poses (M, 3, 4), metres, without its pictures.

    Raises:
        UserError: meta.mat is missing or holds something else.
    """
    path = folder / f"{name}-meta.mat"
    return _objects_in(path, _read_meta(path, False), objects)


def _objects_in(
    path: Path, meta: dict[str, Any], objects: ObjectModels
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    try:
        class_ids = np.asarray(meta["cls_indexes"]).reshape(-1).astype(np.int32)
        stored = np.asarray(meta["poses"], np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: cls_indexes or poses are not numbers",
            "store (objects, 1) and (3, 4, objects)",
        ) from error
    _check_ids(path, class_ids, objects, lowest=1)
    return class_ids, _poses(path, stored, len(class_ids))


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
    if not path.is_file():
        raise UserError(f"no file {path}", f"expected {TREE}")
    try:
        meta: dict[str, Any] = loadmat(path)
    except Exception as error:  # scipy raises errors of many kinds on a damaged file
        raise UserError(
            f"cannot read {path}: {flat(str(error))}", "the file is damaged: copy it again"
        ) from error
    needed = ["cls_indexes", "poses", "factor_depth"] + ["intrinsic_matrix"] * needs_camera
    missing = [field for field in needed if field not in meta]
    if missing:
        found = sorted(key for key in meta if not key.startswith("__"))
        raise UserError(
            f"{path} lacks {', '.join(missing)} (it has {', '.join(found)})",
            f"a meta.mat holds {', '.join(needed)}",
        )
    return meta


def _poses(path: Path, stored: Any, count: int) -> npt.NDArray[np.float32]:
    """(M, 3, 4) from the file's (3, 4, M), whose last axis Matlab drops where M is 1."""
    poses = np.asarray(stored)
    if poses.ndim == 2 and count == 1:
        poses = poses[..., None]
    if count == 0:
        return np.zeros((0, 3, 4), np.float32)
    if poses.shape != (3, 4, count):
        raise UserError(
            f"{path}: poses have shape {poses.shape} for {count} objects", "store (3, 4, objects)"
        )
    check_poses(path, poses)
    return np.ascontiguousarray(poses.transpose(2, 0, 1), np.float32)


def _depth_scale(path: Path, stored: Any) -> float:
    values = np.asarray(stored, np.float64).reshape(-1)
    if values.size != 1 or not np.isfinite(values[0]) or values[0] <= 0:
        raise UserError(f"{path}: factor_depth is {stored!s}", "store the depth units of a metre")
    return float(values[0])
