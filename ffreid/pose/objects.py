"""The object models of a dataset: names, keypoints, corners, radii, symmetry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_lines
from ffreid.errors import UserError, flat
from ffreid.pose.defaults import check_linemod_object
from ffreid.pose.resources import resource

Floats = npt.NDArray[np.float32]


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


def folder_objects(dataset_name: str, folder: Path) -> ObjectModels:
    """Read the objects in the folder of a dataset in YCB-Video's layout.

    ``dataset_config/`` has ``classes.txt`` (names), ``radius.txt`` (metres) and, optionally,
    ``symmetric.txt`` (names); ``ycb_kps/`` has ``<class>_8_kps.txt`` and ``<class>_corners.txt``
    (8 lines x y z, metres).
    """

    def read(file: str, *shape: int) -> Floats:
        path = folder / file
        try:
            values = np.loadtxt(path, np.float32, ndmin=1, encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {flat(str(error))}", "write numbers") from error
        if values.shape != shape or not np.isfinite(values).all():
            expected = " x ".join(map(str, shape))
            raise UserError(f"{path}: shape {values.shape}", f"write {expected} numbers in metres")
        return values

    names = tuple(read_lines(folder / "dataset_config/classes.txt", "class name"))
    symmetric_file = folder / "dataset_config/symmetric.txt"
    symmetric = symmetric_file.read_text("utf-8-sig").split() if symmetric_file.is_file() else []
    if unknown := set(symmetric) - set(names):
        raise UserError(f"{symmetric_file}: unknown class {min(unknown)!r}", "see classes.txt")
    return ObjectModels(
        dataset=dataset_name,
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.stack([read(f"ycb_kps/{name}_8_kps.txt", 8, 3) for name in names]),
        corners=np.stack([read(f"ycb_kps/{name}_corners.txt", 8, 3) for name in names]),
        radii=read("dataset_config/radius.txt", len(names)),
        diameters=None,
        symmetric=frozenset(names.index(name) + 1 for name in symmetric),
    )
