"""Poses in the results format of the BOP challenge (millimetres, BOP's object frames)."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

Pose = npt.NDArray[np.float64]

_COLUMNS = ("scene_id", "im_id", "obj_id", "score", "R", "t")
_HINT = "BOP results have the columns scene_id,im_id,obj_id,score,R,t,time"
# No camera sees an object whose centre is a centimetre away: such numbers are metres.
_NEAREST_MM = 10.0


def read_bop_csv(path: Path, objects: ObjectModels) -> dict[str, list[tuple[int, Pose]]]:
    """Read a BOP results file; of several poses of an object in an image the best scored is used.

    BOP moved the origins of the YCB-Video models: poses are converted to the original ones. Of the
    columns R has 9 numbers (row by row) and t 3 (millimetres), separated by spaces; ``obj_id`` is
    one of the objects' numbers.

    Returns:
        Class ids and (3, 4) poses in metres by frame ``<scene:04d>/<image:06d>``.
    """
    best: dict[tuple[str, int], tuple[float, Pose]] = {}
    with path.open(newline="", errors="replace") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise UserError(f"{path}: no column {', '.join(missing)}", _HINT)
        for row in reader:
            frame, class_id, score, pose = _read_row(row, f"{path}, row {reader.line_num}", objects)
            if (frame, class_id) not in best or score > best[frame, class_id][0]:
                best[frame, class_id] = score, pose
    if not best:
        raise UserError(f"{path} has no poses", _HINT)
    farthest = max(float(np.linalg.norm(pose[:, 3])) for _, pose in best.values())
    if farthest * 1000 < _NEAREST_MM:
        raise UserError(
            f"{path}: all objects are closer than {farthest * 1000:.2g} mm",
            "write t in millimetres, as BOP does",
        )
    poses: dict[str, list[tuple[int, Pose]]] = {}
    for (frame, class_id), (_, pose) in best.items():
        if objects.dataset == "ycb":
            # A point of the BOP model is the original's plus this offset.
            offset = resource("published")["bop_ycbv_offsets_mm"][objects.name(class_id)]
            pose[:, 3] += pose[:, :3] @ (np.array(offset) / 1000)
        poses.setdefault(frame, []).append((class_id, pose))
    return poses


def _read_row(
    row: dict[str, str], where: str, objects: ObjectModels
) -> tuple[str, int, float, Pose]:
    try:
        scene, image, number = (int(row[name]) for name in ("scene_id", "im_id", "obj_id"))
        score = float(row["score"])
        rotation, shift = (np.array([float(w) for w in row[name].split()]) for name in ("R", "t"))
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {flat(str(error))}", _HINT) from error
    if (len(rotation), len(shift)) != (9, 3):
        raise UserError(
            f"{where}: R has {len(rotation)} numbers and t has {len(shift)}",
            "R takes 9 numbers and t 3, separated by spaces",
        )
    if not np.isfinite([score, *rotation, *shift]).all():
        raise UserError(f"{where}: NaN or infinity", "remove rows without a pose")
    rotation = rotation.reshape(3, 3)
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: R is not a rotation", "write R row by row")
    if number not in objects.numbers:
        known = ", ".join(map(str, objects.numbers))
        raise UserError(f"{where}: unknown object number {number}", f"use one of: {known}")
    pose = np.column_stack([rotation, shift / 1000])
    return f"{scene:04d}/{image:06d}", objects.numbers.index(number) + 1, score, pose
