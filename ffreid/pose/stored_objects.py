"""The objects in a checkpoint, so that its network can be used without the dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ffreid.errors import UserError
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.object_set.surface import sample
from ffreid.pose.objects import ObjectModels

ENTRY = "objects"
POINTS = 2000
"""Points of an object's surface that are kept, for overlays, refinement and scores."""
SYMMETRIES = ("symmetries_discrete", "symmetries_continuous")
_SAME = 1e-5


@dataclass(frozen=True)
class StoredObjects:
    """A checkpoint's objects.

    Attributes:
        points: (P, 3) of their surfaces, metres, by class id.
        symmetries: of each, in the form of models_info.json, millimetres.
        frame_size: height and width of the frames it was trained on.
    """

    objects: ObjectModels
    points: Meshes
    symmetries: list[dict[str, Any]]
    frame_size: tuple[int, int]


def pack(
    objects: ObjectModels,
    meshes: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]],
    infos: Sequence[Mapping[str, Any]],
    frame_size: tuple[int, int],
) -> dict[str, Any]:
    """The entry of checkpoints: `meshes` are vertices (metres) and faces, `infos` BOP's."""
    assert objects.radii is not None
    assert objects.diameters is not None
    return {
        "names": list(objects.names),
        "numbers": list(objects.numbers),
        "keypoints": torch.tensor(objects.keypoints),
        "corners": torch.tensor(objects.corners),
        "radii": torch.tensor(objects.radii),
        "diameters": torch.tensor(objects.diameters),
        "symmetric": sorted(objects.symmetric),
        "symmetries": [{key: info[key] for key in SYMMETRIES if info.get(key)} for info in infos],
        "points": [torch.tensor(_points(*mesh)) for mesh in meshes],
        "frame_size": list(frame_size),
    }


def _points(
    vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Points all over a surface, with the vertices that reach farthest along each axis."""
    farthest = [*vertices.argmin(axis=0), *vertices.argmax(axis=0)]
    points = sample(vertices, faces, POINTS - len(farthest)).points
    return np.concatenate([vertices[farthest], points]).astype(np.float32)


def unpack(state: Mapping[str, Any], dataset: str, path: Path) -> StoredObjects | None:
    """The objects that a checkpoint holds; None where it has none.

    Raises:
        UserError: the entry is damaged.
    """
    entry = state.get(ENTRY)
    if entry is None:
        return None
    try:
        names, numbers = tuple(entry["names"]), tuple(entry["numbers"])
        objects = ObjectModels(
            dataset=dataset,
            names=names,
            numbers=numbers,
            keypoints=entry["keypoints"].numpy(),
            corners=entry["corners"].numpy(),
            radii=entry["radii"].numpy(),
            diameters=entry["diameters"].numpy(),
            symmetric=frozenset(entry["symmetric"]),
        )
        points = {c: each.numpy() for c, each in enumerate(entry["points"], 1)}
        count = len(names)
        shapes = objects.keypoints.shape[::2], objects.corners.shape, len(points), len(numbers)
        if shapes != ((count, 3), (count, 8, 3), count, count):
            raise ValueError(f"shapes {shapes}")
        height, width = entry["frame_size"]
        return StoredObjects(objects, points, list(entry["symmetries"]), (height, width))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: its objects are damaged: {error!r}",
            "use another checkpoint of the run: this one was changed or damaged",
        ) from error


def check_same(
    then: StoredObjects,
    now: ObjectModels,
    origin: str,
    hint: str,
    symmetries: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Refuse objects that are not those of a checkpoint, naming what differs.

    Without `symmetries` these are not compared.
    """
    old = then.objects
    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("only there", [name for name in old.names if name not in now.names]),
            ("only here", [name for name in now.names if name not in old.names]),
        )
        if names
    ]
    if not problems and old.names != now.names:
        problems = [f"another order: {', '.join(old.names)} there"]
    if not problems:
        count, here = old.keypoints.shape[1], now.keypoints.shape[1]
        if count != here:
            problems = [f"{count} keypoints there, {here} here"]
        else:
            far = np.abs(old.keypoints - now.keypoints).max(axis=(1, 2)) > _SAME
            problems = _named("other keypoints of", now, far)
    if not problems and symmetries is not None:
        unlike = [
            {key: info[key] for key in SYMMETRIES if info.get(key)} != before
            for info, before in zip(symmetries, then.symmetries, strict=True)
        ]
        problems = _named("other symmetries of", now, unlike)
    if problems:
        raise UserError(f"{origin} was trained on other objects: {'; '.join(problems)}", hint)


def _named(what: str, objects: ObjectModels, which: Sequence[Any]) -> list[str]:
    names = [name for name, chosen in zip(objects.names, which, strict=True) if chosen]
    return [f"{what} {', '.join(names)}"] if names else []
