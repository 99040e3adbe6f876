"""The object models of a dataset: names, keypoints, corners, radii, symmetry."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_lines, reason_of
from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.pose.defaults import linemod_names
from ffreid.pose.resources import resource

Floats = npt.NDArray[np.float32]

LINEMOD_SETS = ("linemod", "lm", "lmo")
"""Datasets of LineMOD's objects, in its layout or in BOP's."""
LARGEST = 5.0
"""Diagonal of an object, metres."""


@dataclass(frozen=True)
class ObjectModels:
    """The objects of one network; class id c (0 is background) is row c - 1.

    Attributes:
        dataset: ``ycb``, ``linemod`` or the name of a dataset in YCB-Video's layout.
        names: M class names.
        numbers: the dataset's object numbers (LineMOD's 1..15; elsewhere the class ids).
        keypoints: (M, K, 3) float32, metres, object frame.
        corners: (M, 8, 3) float32 box corners, metres; their mean is the object's "centre".
            LineMOD's are in another frame than its keypoints, as the authors shipped them.
        radii: (M,) float32 metres, None where the dataset has none.
        diameters: (M,) float64 metres, None where they are computed from the mesh.
        symmetric: class ids scored by ADD-S in ADD(-S).
    """

    dataset: str
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    keypoints: Floats
    corners: Floats
    radii: Floats | None
    diameters: npt.NDArray[np.float64] | None
    symmetric: frozenset[int]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def centres(self) -> Floats:
        """(M, 3) float32 mean of the corners, metres."""
        return np.asarray(self.corners.mean(axis=1), np.float32)

    @property
    def class_ids(self) -> range:
        """1 … M."""
        return range(1, len(self) + 1)

    @property
    def is_linemod(self) -> bool:
        """Whether these are LineMOD's objects, whose corners are in another frame."""
        return self.dataset in LINEMOD_SETS

    def name(self, class_id: int) -> str:
        """Name of class `class_id` (1 … M)."""
        return self.names[class_id - 1]


def ycb_objects() -> ObjectModels:
    """The 21 YCB-Video objects with the authors' keypoints, corners and radii."""
    facts = resource("ycb")
    names = tuple(facts["classes"])
    return ObjectModels(
        dataset="ycb",
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.array([facts["keypoints"][name] for name in names], np.float32),
        corners=np.array([facts["corners"][name] for name in names], np.float32),
        radii=np.array(facts["radius"], np.float32),
        diameters=None,
        symmetric=frozenset(facts["symmetric"]),
    )


def ycbv_objects() -> ObjectModels:
    """The same places on the YCB-Video objects in the frame of BOP's models, which are shifted.

    So a network of either votes for the other's keypoints, and its poses are of BOP's models.
    """
    objects, offsets = ycb_objects(), resource("published")["bop_ycbv_offsets_mm"]
    shifts = np.array([offsets[name] for name in objects.names], np.float32)[:, None] / 1000
    return replace(
        objects,
        dataset="ycbv",
        keypoints=np.asarray(objects.keypoints + shifts, np.float32),
        corners=np.asarray(objects.corners + shifts, np.float32),
    )


def linemod_objects(chosen: str, dataset: str = "linemod") -> ObjectModels:
    """One or several LineMOD objects, see `linemod_names`: classes of one network, by number."""
    facts, names = resource("linemod"), linemod_names(chosen)
    numbers = tuple(int(facts["objects"][name]) for name in names)
    diameters = [facts["models_info_mm"][str(number)]["diameter"] / 1000 for number in numbers]
    return ObjectModels(
        dataset=dataset,
        names=names,
        numbers=numbers,
        keypoints=np.array([facts["keypoints"][name] for name in names], np.float32),
        corners=np.array([facts["corners"][name] for name in names], np.float32),
        radii=None,
        diameters=np.array(diameters),
        symmetric=frozenset(c for c, n in enumerate(numbers, 1) if n in facts["symmetric"]),
    )


def folder_objects(dataset_name: str, folder: Path) -> ObjectModels:
    """Read the objects in the folder of a dataset in YCB-Video's layout.

    ``dataset_config/`` has ``classes.txt`` (names), ``radius.txt`` (metres) and, optionally,
    ``symmetric.txt`` (names); ``ycb_kps/`` has ``<class>_8_kps.txt`` and ``<class>_corners.txt``
    (8 lines x y z, metres).

    Raises:
        UserError: a file is missing, has other numbers or names than these, or the files of an
            object contradict each other.
    """
    names_file, symmetric_file = (
        folder / f"dataset_config/{name}.txt" for name in ("classes", "symmetric")
    )
    names = tuple(read_lines(names_file, "class name"))
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UserError(f"{names_file}: {repeated[0]!r} is listed twice", "list each class once")
    symmetric = read_lines(symmetric_file, "name") if _has_text(symmetric_file) else []
    if unknown := set(symmetric) - set(names):
        raise UserError(
            f"{symmetric_file}: {min(unknown)!r} is not in classes.txt",
            f"use names of {names_file}, one per line",
        )
    radii = _read_numbers(folder / "dataset_config/radius.txt", len(names))
    keypoints, corners = [], []
    for name, radius in zip(names, radii.tolist(), strict=True):
        files = [folder / f"ycb_kps/{name}_{part}.txt" for part in ("8_kps", "corners")]
        points, box = (_read_numbers(path, 8, 3) for path in files)
        for path, values in zip(files, (points, box), strict=True):
            _check_object(path, values, radius)
        size = np.linalg.norm(np.ptp(box, axis=0))
        if max((box.min(axis=0) - points).max(), (points - box.max(axis=0)).max()) > 0.05 * size:
            raise UserError(
                f"{files[0]}: keypoints lie outside of the box of {files[1].name}",
                "write both in the frame of the object's mesh, in metres",
            )
        keypoints.append(points)
        corners.append(box)
    return ObjectModels(
        dataset=dataset_name,
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.stack(keypoints),
        corners=np.stack(corners),
        radii=radii,
        diameters=None,
        symmetric=frozenset(names.index(name) + 1 for name in symmetric),
    )


def _has_text(path: Path) -> bool:
    # What is there but no file is an error of its reader.
    return os.path.lexists(path) and not (
        path.is_file() and not path.read_bytes().strip(b"\xef\xbb\xbf \t\r\n")
    )


def _read_numbers(path: Path, *shape: int) -> Floats:
    expected = f"write {' x '.join(map(str, shape))} numbers in metres"
    try:
        values = np.loadtxt(regular(path), np.float32, ndmin=1, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", expected) from error
    if values.shape != shape:
        there = " x ".join(map(str, values.shape))
        raise UserError(f"{path}: {there} numbers", expected)
    if not np.isfinite(values).all():
        line = int(np.argwhere(~np.isfinite(values))[0][0]) + 1
        raise UserError(f"{path}, line {line}: NaN or infinity", expected)
    return values


def _check_object(path: Path, points: Floats, radius: float) -> None:
    """Refuse points that do not fix a pose, and a size that does not fit the radius (metres)."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-3 * max(spread[0], 1e-6):
        raise UserError(
            f"{path}: all points lie in one place or on one line",
            "write points all over the object's surface",
        )
    half = float(np.linalg.norm(np.ptp(points, axis=0))) / 2
    # Radii are the largest half extent (YCB-Video) to half the diagonal (FFB6D's tool).
    if not half / 3 < radius < half * 3:
        raise UserError(
            f"{path}: the object is {2 * half:.3g} m large, in radius.txt its radius is {radius:g}",
            "write all of them in metres",
        )
    if half > LARGEST / 2:
        raise UserError(f"{path}: the object is {2 * half:.3g} m large", "write metres")
