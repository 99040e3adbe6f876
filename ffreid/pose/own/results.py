"""What ``ffreid predict`` writes: tables, JSON lines, BOP results and pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.atomic import to_json_data
from ffreid.engine.dataset_files import file_name, write_image
from ffreid.engine.tracking.run_folder import create_folder
from ffreid.errors import UserError
from ffreid.pose.bop.results import HEADER, result_line
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.draw import RgbImage, draw_poses
from ffreid.pose.objects import ObjectModels
from ffreid.pose.own.predict import FileResult
from ffreid.pose.predictions import to_bop
from ffreid.pose.predictor import Pose
from ffreid.report import Cell

LINES, BOP, OVERLAYS, GRID = "poses.jsonl", "bop.csv", "overlays", "grid.png"
"""Files and a folder of results."""
TILE, COLUMNS, TILES = 320, 5, 100
"""Pixels of a picture's width in the contact sheet, pictures in a row, and in all."""
WIDEST = 1280
"""Columns of an overlay picture."""


def score_name(poses: Sequence[Pose]) -> str:
    """What the scores of a frame's poses are: ``probability`` where they are calibrated."""
    calibrated = all(pose.probability is not None for pose in poses)
    return "probability" if calibrated else "raw score"


def table(result: FileResult, kept: Sequence[Pose]) -> tuple[str, list[str], list[list[Cell]]]:
    """Title, columns and rows of a frame's table."""
    seconds = sum(result.seconds.values())
    stages = ", ".join(f"{name} {value * 1000:.0f}" for name, value in result.seconds.items())
    columns = ["object", score_name(kept), "x mm", "y mm", "z mm", "votes"]
    refined = any(pose.refinement for pose in kept)
    columns += ["residual mm", "refined mm"] if refined else []
    rows: list[list[Cell]] = []
    for pose in kept:
        shift = (pose.camera_from_object[:, 3] * 1000).tolist()
        row: list[Cell] = [pose.name, pose.score, *shift, pose.votes]
        if refined and (done := pose.refinement):
            after = f"{done.residual_after * 1000:.2f}" + " (kept the first)" * (not done.accepted)
            row += [done.residual_before * 1000, after]
        elif refined:
            row += [None, None]
        rows.append(row)
    left_out = sum(pose.solved for pose in result.poses) - len(kept)
    more = f" ({left_out} with a lower score left out)" * bool(left_out)
    poses = f"{len(kept)} {'pose' if len(kept) == 1 else 'poses'}{more}"
    return f"{result.paths.name}: {poses}, {seconds:.2f} s ({stages} ms)", columns, rows


def as_json(result: FileResult, kept: Sequence[Pose], number: tuple[int, int]) -> dict[str, Any]:
    """A frame as JSON data: files, intrinsics, poses, times, and what was assumed."""
    files = {"frame": result.paths.name, "color": result.paths.colour, "depth": result.paths.depth}
    if result.error is not None or result.own is None:
        error = result.error
        return files | {"error": error and error.message, "hint": error and error.hint}
    frame = result.own.frame
    return files | {
        "scene_id": number[0],
        "im_id": number[1],
        "size": frame.depth.shape,
        "network_size": result.network_size,
        "intrinsics": frame.intrinsics,
        "intrinsics_from": result.own.camera.origin,
        "depth_scale": frame.depth_scale,
        "assumptions": result.assumptions,
        "poses": [_pose_json(pose) for pose in kept],
        "left_out": sum(pose.solved for pose in result.poses) - len(kept),
        "seconds": result.seconds,
    }


def _pose_json(pose: Pose) -> dict[str, Any]:
    row = {
        "object": pose.name,
        "class_id": pose.class_id,
        "camera_from_object": pose.camera_from_object,
        "raw_score": pose.evidence.score,
        "probability": pose.probability,
        "evidence": vars(pose.evidence),
        "votes": pose.votes,
    }
    if (done := pose.refinement) is not None:
        row["refinement"] = {
            "accepted": done.accepted,
            "camera_from_object_before": done.before,
            "residual_before_m": done.residual_before,
            "residual_after_m": done.residual_after,
        }
    return row


class Numbers:
    """Scene and image numbers of frames for BOP: those in their names, each given once."""

    def __init__(self) -> None:
        self.used: set[tuple[int, int]] = set()

    def next(self, result: FileResult) -> tuple[int, int]:
        """Numbers of a frame: of its folder (0 without one) and of its file."""
        folder = result.paths.folder.name
        scene = int(folder) if folder.isdecimal() and len(folder) < 10 else 0
        image = result.paths.number
        if image is None or image >= 2**31 or (scene, image) in self.used:
            image = max((i for s, i in self.used if s == scene), default=-1) + 1
        self.used.add((scene, image))
        return scene, image


def bop_rows(
    kept: Sequence[Pose], objects: ObjectModels, number: tuple[int, int], seconds: float
) -> str:
    """Rows of a BOP results file: obj_id is the dataset's, t in millimetres, R row by row."""
    lines = []
    for pose in kept:
        bop = to_bop(pose.camera_from_object, pose.class_id, objects)
        bop[:, 3] *= 1000
        obj_id = objects.numbers[pose.class_id - 1]
        lines.append(result_line(number, obj_id, pose.score, bop, seconds))
    return "".join(lines)


def overlay(
    result: FileResult, kept: Sequence[Pose], objects: ObjectModels, points: Meshes
) -> RgbImage:
    """The frame with the model's points, box and axes, name and score at each pose."""
    assert result.own is not None
    frame = result.own.frame
    rgb, camera = frame.rgb, frame.intrinsics.astype(np.float64)
    if rgb.shape[1] > WIDEST:
        factor = WIDEST / rgb.shape[1]
        rows = round(rgb.shape[0] * factor)
        rgb = cv2.resize(rgb, (WIDEST, rows), interpolation=cv2.INTER_AREA).astype(np.uint8)
        camera[:2] *= factor
    return draw_poses(
        rgb,
        camera,
        points=points,
        predicted=[(pose.class_id, pose.camera_from_object) for pose in kept],
        captions=[f"{pose.name} {pose.score:.2f}" for pose in kept],
        names={class_id: objects.name(class_id) for class_id in objects.class_ids},
        title=f"{result.paths.name}: {score_name(kept) if kept else 'no poses'}",
    )


def drawn_points(objects: ObjectModels, meshes: Meshes) -> dict[int, npt.NDArray[np.floating]]:
    """Points to draw of each class: its mesh, else its keypoints and box."""
    points = {}
    for class_id in objects.class_ids:
        parts = [objects.keypoints[class_id - 1]]
        if not objects.is_linemod:  # corners in another frame
            parts.append(objects.corners[class_id - 1])
        mesh = meshes.get(class_id)
        points[class_id] = np.concatenate(parts) if mesh is None else mesh
    return points


class Folder:
    """The folder of ``--out``: files grow frame by frame, so that nothing is lost at a stop.

    Raises:
        UserError: it cannot be written, or has results of before and `force` is not given.
    """

    def __init__(self, path: Path, *, grid: bool, force: bool) -> None:
        create_folder(path, "use another folder with --out FOLDER")
        old = [n for n in (LINES, BOP, OVERLAYS, GRID) if os.path.lexists(path / n)]
        if old and not force:
            raise UserError(
                f"{path} already contains {old[0]}",
                "use another folder with --out FOLDER, or add --force to overwrite it",
            )
        for stale in [path / GRID, *(path / OVERLAYS).glob("*.png")] if force else ():
            stale.unlink(missing_ok=True)
        self.path, self.grid, self.started = path, grid, False
        self.numbers, self.tiles, self.names = Numbers(), list[RgbImage](), set[str]()
        self.left_out = 0

    def add(
        self, result: FileResult, kept: Sequence[Pose], objects: ObjectModels, points: Meshes
    ) -> None:
        """Write a frame's results."""
        if not self.started:
            self._append(LINES, "", "w")
            self._append(BOP, f"{HEADER}\n", "w")
            self.started = True
        number = (0, 0)
        if result.error is None:
            number = self.numbers.next(result)
            self._append(BOP, bop_rows(kept, objects, number, sum(result.seconds.values())))
            picture = overlay(result, kept, objects, points)
            write_image(self.path / OVERLAYS / self._name(result), picture)
            if self.grid and len(self.tiles) < TILES:
                self.tiles.append(_tile(picture))
            elif self.grid:
                self.left_out += 1
        self._append(LINES, json.dumps(to_json_data(as_json(result, kept, number))) + "\n")

    def close(self) -> None:
        """Write the contact sheet."""
        if self.tiles:
            write_image(self.path / GRID, contact_sheet(self.tiles))

    def _name(self, result: FileResult) -> str:
        """A file name, different from those before also where file systems ignore case."""
        name = file_name(result.paths.name)
        count = 1
        while name.lower() in self.names:
            count += 1
            name = file_name(f"{result.paths.name}-{count}")
        self.names.add(name.lower())
        return name

    def _append(self, name: str, text: str, mode: str = "a") -> None:
        try:
            with (self.path / name).open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(
                f"cannot write {self.path / name}: {error.strerror}",
                "free disk space, or use another folder with --out FOLDER",
            ) from error


def _tile(picture: RgbImage) -> RgbImage:
    height = max(1, round(picture.shape[0] * TILE / picture.shape[1]))
    return cv2.resize(picture, (TILE, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def contact_sheet(tiles: Sequence[RgbImage]) -> RgbImage:
    """Put pictures of one width side by side, `COLUMNS` in a row."""
    height, columns = max(tile.shape[0] for tile in tiles), min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height, columns * TILE, 3), 32, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * TILE
        sheet[top : top + tile.shape[0], left : left + TILE] = tile
    return sheet
