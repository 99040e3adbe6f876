"""Results in BOP's CSV format: ``scene_id,im_id,obj_id,score,R,t,time``."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_text, reason_of
from ffreid.errors import UserError, flat
from ffreid.pose.data.frame import is_rotation

COLUMNS = ("scene_id", "im_id", "obj_id", "score", "R", "t")
HEADER = "scene_id,im_id,obj_id,score,R,t,time"
HINT = f"BOP results have the columns {HEADER}"
# No camera sees an object whose centre is a centimetre away: such numbers are metres.
_NEAREST_MM = 10.0
_LONGEST_LINE = 10_000


@dataclass(frozen=True)
class BopEstimate:
    """A row: numbers of scene, image and object, score, pose (3, 4) in mm, where it stands.

    `seconds` is for the whole image, None where it is unknown.
    """

    scene: int
    image: int
    object_id: int
    score: float
    pose: npt.NDArray[np.float64]
    seconds: float | None
    where: str


def read_results(
    path: Path, numbers: Collection[int], *, check_unit: bool = True
) -> list[BopEstimate]:
    """Read the rows of objects with these numbers, in the file's order.

    R has 9 numbers (row by row) and t 3 (millimetres), separated by spaces. With `check_unit`
    translations are refused that must be metres.

    Raises:
        UserError: the file cannot be read, has no poses, or a row is not one of such an object.
    """
    try:
        file = io.StringIO(read_text(path), "")
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(_lines(path, file), delimiter=delimiter, skipinitialspace=True)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            begin = f"it begins with {first.strip()[:200]!r}"
            raise UserError(f"{path}: no column {', '.join(missing)}: {begin}", HINT)
        found = [_parse_row(row, f"{path}, row {reader.line_num}", numbers) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        problem = f"cannot read {path}: {reason_of(error)}"
        raise UserError(problem, "save it as CSV in UTF-8") from error
    if not found:
        raise UserError(f"{path} has no poses", HINT)
    farthest = max(float(np.linalg.norm(row.pose[:, 3])) for row in found)
    if check_unit and farthest < _NEAREST_MM:
        raise UserError(
            f"{path}: all objects are closer than {farthest:.2g} mm",
            "write t in millimetres, as BOP does",
        )
    return found


def result_line(
    image: tuple[int, int],
    object_id: int,
    score: float,
    pose: npt.NDArray[np.float64],
    seconds: float,
) -> str:
    """A line of a results file; `image` are the numbers of scene and image, the pose is in mm."""
    rotation, shift = (
        " ".join(f"{value:.9g}" for value in values.ravel()) for values in (pose[:, :3], pose[:, 3])
    )
    return f"{image[0]},{image[1]},{object_id},{score:.6f},{rotation},{shift},{seconds:.4f}\n"


def _lines(path: Path, file: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a table, but of any number of columns none: DictReader fills them all."""
    for number, line in enumerate(file, start=1):
        if len(line) > _LONGEST_LINE:
            raise UserError(f"{path}, row {number}: {len(line):,} characters", HINT)
        yield line


def _parse_row(row: dict[Any, Any], where: str, numbers: Collection[int]) -> BopEstimate:
    if None in row or None in row.values():
        raise UserError(f"{where} has more or fewer columns than the first row", HINT)
    try:
        scene, image, number = (int(row[name]) for name in ("scene_id", "im_id", "obj_id"))
        score, seconds = float(row["score"]), float(row.get("time") or -1)
        rotation, shift = (np.array([float(w) for w in row[name].split()]) for name in ("R", "t"))
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {flat(str(error))}", HINT) from error
    if (len(rotation), len(shift)) != (9, 3):
        raise UserError(
            f"{where}: R has {len(rotation)} numbers and t has {len(shift)}",
            "R takes 9 numbers and t 3, separated by spaces",
        )
    if not np.isfinite([score, *rotation, *shift]).all():
        raise UserError(f"{where}: NaN or infinity", "remove rows without a pose")
    if not (0 <= seconds < math.inf or seconds == -1):
        hint = "time is in seconds, for the whole image; -1 is unknown"
        raise UserError(f"{where}: time is {seconds:g}", hint)
    rotation = rotation.reshape(3, 3)
    if not is_rotation(rotation):
        raise UserError(f"{where}: R is not a rotation", "write R row by row")
    if number not in numbers:
        known = ", ".join(map(str, numbers))
        raise UserError(f"{where}: unknown object number {number}", f"use one of: {known}")
    pose = np.column_stack([rotation, shift])
    return BopEstimate(scene, image, number, score, pose, seconds if seconds >= 0 else None, where)
