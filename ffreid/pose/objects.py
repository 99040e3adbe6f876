"""The object models of a data set: names, keypoints, corners, radii, symmetry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.pose.defaults import check_linemod_object
from ffreid.pose.resources import resource

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ObjectModels:
    """The objects of one network; class id c (0 is background) is row c - 1.

    Attributes:
        dataset: ``ycb``, ``linemod`` or the name of a data set in YCB-Video's layout.
        names: M class names.
        numbers: the data set's object numbers (LineMOD's 1..15; elsewhere the class ids).
        keypoints: (M, K, 3) float32, metres, object frame.
        corners: (M, 8, 3) float32 box corners, metres; their mean is the object's "centre".
            LineMOD's are in another frame than its keypoints, as the authors shipped them.
        radii: (M,) float32 metres, None where the data set has none.
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


def linemod_objects(name: str) -> ObjectModels:
    """One LineMOD object: its network has background and class 1."""
    check_linemod_object(name)
    facts = resource("linemod")
    number = int(facts["objects"][name])
    diameter = facts["models_info_mm"][str(number)]["diameter"] / 1000
    return ObjectModels(
        dataset="linemod",
        names=(name,),
        numbers=(number,),
        keypoints=np.array([facts["keypoints"][name]], np.float32),
        corners=np.array([facts["corners"][name]], np.float32),
        radii=None,
        diameters=np.array([diameter]),
        symmetric=frozenset({1}) if number in facts["symmetric"] else frozenset(),
    )


def folder_objects(dataset: str, folder: Path) -> ObjectModels:
    """Read the objects of a data set in YCB-Video's layout that brings its own.

    Files: ``dataset_config/classes.txt`` (a name per line), ``dataset_config/radius.txt``
    (metres), ``dataset_config/symmetric.txt`` (class names, optional),
    ``ycb_kps/<class>_8_kps.txt`` and ``ycb_kps/<class>_corners.txt`` (8 lines x y z, metres).

    Raises:
        UserError: a file is missing or malformed.
    """
    config, kps = folder / "dataset_config", folder / "ycb_kps"
    classes = config / "classes.txt"
    if not classes.is_file():
        raise UserError(f"no file {classes}", "write one class name per line")
    names = tuple(classes.read_text().split())
    symmetric = config / "symmetric.txt"
    symmetric_names = symmetric.read_text().split() if symmetric.is_file() else []
    return ObjectModels(
        dataset=dataset,
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.stack([_read_rows(kps / f"{name}_8_kps.txt", (8, 3)) for name in names]),
        corners=np.stack([_read_rows(kps / f"{name}_corners.txt", (8, 3)) for name in names]),
        radii=_read_rows(config / "radius.txt", (len(names),)),
        diameters=None,
        symmetric=frozenset(names.index(name) + 1 for name in symmetric_names),
    )


def _read_rows(path: Path, shape: tuple[int, ...]) -> Floats:
    try:
        rows = np.loadtxt(path, dtype=np.float32, ndmin=1)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}", f"expected numbers {shape}") from error
    if rows.shape != shape:
        raise UserError(f"{path}: shape {rows.shape}", f"expected {shape} numbers in metres")
    return rows
