"""The objects of a data set: names, keypoints, corners, radii, symmetry (metres, object frame)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.pose.resources import resource

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ObjectModels:
    """The objects that one network tells apart; class id c (0 is background) is row c - 1.

    Attributes:
        dataset: ``ycb``, ``linemod`` or the name of a set in YCB-Video's layout.
        names: M class names.
        numbers: the data set's own object numbers (LineMOD's 1..15; elsewhere the class ids).
        keypoints: (M, K, 3) float32, metres, object frame.
        corners: (M, 8, 3) float32 box corners, metres; their mean is the object's "centre".
            LineMOD's lie in another frame than its keypoints, as the authors shipped them.
        radii: (M,) float32 metres, None where the set has none.
        diameters: (M,) float64 metres, None where they follow from the mesh points.
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
        keypoints=_stack(facts["keypoints"], names),
        corners=_stack(facts["corners"], names),
        radii=np.array(facts["radius"], np.float32),
        diameters=None,
        symmetric=frozenset(facts["symmetric"]),
    )


def linemod_objects(name: str) -> ObjectModels:
    """One LineMOD object as a set of its own: its network knows background and class 1.

    Raises:
        UserError: `name` is none of the 13 objects.
    """
    facts = resource("linemod")
    if name not in facts["objects"]:
        raise UserError(
            f"LineMOD has no object {name!r}", f"choose one of: {', '.join(facts['objects'])}"
        )
    number = int(facts["objects"][name])
    diameter = facts["models_info_mm"][str(number)]["diameter"] / 1000
    return ObjectModels(
        dataset="linemod",
        names=(name,),
        numbers=(number,),
        keypoints=_stack(facts["keypoints"], (name,)),
        corners=_stack(facts["corners"], (name,)),
        radii=None,
        diameters=np.array([diameter]),
        symmetric=frozenset({1}) if number in facts["symmetric"] else frozenset(),
    )


def folder_objects(dataset: str, folder: Path) -> ObjectModels:
    """Read the objects of a set in the authors' YCB-Video layout that brings its own objects.

    Files: ``dataset_config/classes.txt`` (a name a line), ``dataset_config/radius.txt`` (metres),
    ``dataset_config/symmetric.txt`` (class names, may be absent), ``ycb_kps/<class>_8_kps.txt`` and
    ``ycb_kps/<class>_corners.txt`` (8 rows of x y z, metres).

    Raises:
        UserError: a file is missing or does not have the rows it should.
    """
    names = tuple((_existing(folder / "dataset_config/classes.txt")).read_text().split())
    symmetric_file = folder / "dataset_config/symmetric.txt"
    symmetric = symmetric_file.read_text().split() if symmetric_file.is_file() else []
    kps = folder / "ycb_kps"
    return ObjectModels(
        dataset=dataset,
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.stack([_rows(kps / f"{name}_8_kps.txt") for name in names]),
        corners=np.stack([_rows(kps / f"{name}_corners.txt") for name in names]),
        radii=np.loadtxt(
            _existing(folder / "dataset_config/radius.txt"), dtype=np.float32, ndmin=1
        ),
        diameters=None,
        symmetric=frozenset(names.index(name) + 1 for name in symmetric),
    )


def _stack(table: dict[str, list[list[float]]], names: Sequence[str]) -> Floats:
    return np.array([table[name] for name in names], np.float32)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"no file {path}", "the README's data layouts show what belongs there")
    return path


def _rows(path: Path) -> Floats:
    try:
        rows = np.loadtxt(_existing(path), dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise UserError(f"{path}: {error}", "write a row 'x y z' in metres a point") from error
    if rows.shape != (8, 3):
        raise UserError(f"{path}: shape {rows.shape}", "8 rows 'x y z' in metres are expected")
    return rows
