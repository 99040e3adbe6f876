"""Score poses that somebody else computed: text files a scene and object, or a BOP results CSV.

The text format has one file ``<scene>_<object>.txt`` for each object of a scene and in it a row
``qw qx qy qz tx ty tz`` (metres) for each of the scene's frames, in the order in which a frames
file lists them (``0048/000001`` a line); an all-zero row means that the object is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.pose.bop import read_bop_csv
from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.metrics import transform
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import InstanceScore, Meshes, mesh_trees, score_frame
from ffreid.pose.voting.frame import ObjectPose, model_points

Pose = npt.NDArray[np.float64]
Predictions = Mapping[str, Sequence[tuple[int, Pose]]]
"""Class ids and (3, 4) poses in metres of each frame ``0048/000001``, at most one a class."""

_FARTHEST = 50.0
_ROW = "a row is 'qw qx qy qz tx ty tz', translations in metres"


def read_predictions(path: Path, objects: ObjectModels, frames_file: Path | None) -> Predictions:
    """Read predicted poses from a folder of text files or from a BOP results file ``*.csv``.

    Args:
        path: folder or file.
        objects: whose names or numbers the files use.
        frames_file: frames that the rows of text files stand for; a CSV needs none.

    Raises:
        UserError: something is missing, misspelt or not a pose; the message names file and row.
    """
    if path.is_file():
        return read_bop_csv(path, objects)
    if frames_file is None:
        raise UserError(
            f"{path} does not say which frames its rows are", "name them with --frames FILE"
        )
    return read_text_poses(path, read_frames(frames_file), objects)


def gt_from_folder(folder: Path, frames_file: Path, objects: ObjectModels) -> list[GroundTruth]:
    """Read true poses in the text format, a `GroundTruth` for each frame of `frames_file`.

    There are no pictures: the intrinsics are NaN.

    Raises:
        UserError: as `read_predictions`.
    """
    frames = read_frames(frames_file)
    poses = read_text_poses(folder, frames, objects)
    gts = []
    for index, frame in enumerate(frames):
        class_ids = np.array([class_id for class_id, _ in poses.get(frame, ())], np.int32)
        matrices = np.array([pose for _, pose in poses.get(frame, ())]).reshape(-1, 3, 4)
        points = [
            transform(pose, model_points(objects, int(class_id)).numpy())
            for class_id, pose in zip(class_ids, matrices, strict=True)
        ]
        count = objects.keypoints.shape[1] + 1
        placed = np.array(points, np.float32).reshape(-1, count, 3)
        gts.append(
            GroundTruth(
                index=index,
                name=frame,
                class_ids=class_ids,
                camera_from_object=matrices.astype(np.float32),
                keypoints_camera=placed[:, :-1],
                centres_camera=placed[:, -1],
                intrinsics=np.full((3, 3), np.nan),
            )
        )
    return gts


def score_predictions(
    gts: Sequence[GroundTruth],
    predictions: Predictions,
    objects: ObjectModels,
    mesh: Meshes,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[InstanceScore]:
    """Score predicted poses against true ones; what is not predicted counts as missed.

    Keypoint errors are those of the model's keypoints under the poses. Frames are matched by the
    last two parts of their names (``data/0048/000001`` is ``0048/000001``).

    Args:
        truths: the frames to score.
        predictions: poses by frame; frames that `gts` lacks are left out.
        objects: the set that the class ids count in.
        mesh: points of each class that occurs.
        progress: called with the frames done and the frames in all.

    Raises:
        UserError: no frame has both truth and a prediction, or a mesh is missing.
    """
    _check_matches(gts, predictions, objects, mesh)
    trees = mesh_trees(mesh)
    scores: list[InstanceScore] = []
    for done, gt in enumerate(gts, start=1):
        found = [
            _as_object_pose(class_id, pose, objects)
            for class_id, pose in predictions.get(frame_key(gt.name), ())
        ]
        scores += score_frame(gt, found, objects, mesh, trees=trees)
        if progress is not None:
            progress(done, len(gts))
    return scores


def frame_key(name: str) -> str:
    """Give the last two parts of a frame's name, ``0048/000001``."""
    return "/".join(name.split("/")[-2:])


def read_frames(path: Path) -> list[str]:
    """Read a list of frames, ``<scene>/<frame>`` a line (folders before that are dropped).

    Raises:
        UserError: there is no such file, a line is no frame, or a frame is listed twice.
    """
    if not path.is_file():
        raise UserError(f"no file {path}", "--frames takes a list with a line like 0048/000001")
    frames: dict[str, int] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not (text := line.strip()):
            continue
        key = frame_key(text)
        if key.count("/") != 1 or key in frames:
            wrong = "is listed twice" if key in frames else "is no frame"
            raise UserError(f"{path}, line {number}: {text!r} {wrong}", "write e.g. 0048/000001")
        frames[key] = number
    if not frames:
        raise UserError(f"{path} lists no frames", "write a line like 0048/000001 for each")
    return list(frames)


def read_text_poses(folder: Path, frames: Sequence[str], objects: ObjectModels) -> Predictions:
    """Read ``<scene>_<object>.txt`` of every scene that `frames` name; other scenes are left out.

    Raises:
        UserError: the folder holds no such file, a file's object is unknown, its rows do not match
            the scene's frames, or a row is no pose.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "give a folder of <scene>_<object>.txt files")
    by_scene: dict[str, list[str]] = {}
    for frame in frames:
        by_scene.setdefault(frame.split("/")[0], []).append(frame)
    poses: dict[str, list[tuple[int, Pose]]] = {}
    files = [p for p in sorted(folder.glob("*_*.txt")) if p.stem.split("_", 1)[0] in by_scene]
    if not files:
        raise UserError(
            f"{folder} holds no <scene>_<object>.txt of the scenes {', '.join(by_scene)}",
            "give the folder that the files lie in, and frames of the same scenes",
        )
    for file in files:
        scene, name = file.stem.split("_", 1)
        class_id = _class_named(name, file, objects)
        rows = _read_rows(file)
        if len(rows) != len(by_scene[scene]):
            raise UserError(
                f"{file}: {len(rows)} rows for {len(by_scene[scene])} frames of scene {scene}",
                "write a row for each frame of --frames FILE, zeros where nothing was found",
            )
        for frame, pose in zip(by_scene[scene], rows, strict=True):
            if pose is not None:
                poses.setdefault(frame, []).append((class_id, pose))
    return poses


def _class_named(name: str, file: Path, objects: ObjectModels) -> int:
    if name not in objects.names:
        close = get_close_matches(name, objects.names, n=1)
        known = close[0] if close else ", ".join(objects.names)
        raise UserError(f"{file}: no object is called {name!r}", f"known is: {known}")
    return objects.names.index(name) + 1


def _read_rows(file: Path) -> list[Pose | None]:
    rows: list[Pose | None] = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        if line.strip():
            rows.append(_read_row(line, f"{file}, row {number}"))
    return rows


def _read_row(line: str, where: str) -> Pose | None:
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError as error:
        raise UserError(f"{where}: {flat(str(error))}", _ROW) from error
    if len(values) != 7:
        raise UserError(f"{where}: {len(values)} numbers instead of 7", _ROW)
    if not np.isfinite(values).all():
        raise UserError(f"{where}: NaN or infinity", "write zeros where nothing was found")
    if not values.any():
        return None
    length = np.linalg.norm(values[:4])
    if length < 1e-6:
        raise UserError(f"{where}: the quaternion is zero", _ROW)
    if np.linalg.norm(values[4:]) > _FARTHEST:
        raise UserError(
            f"{where}: the object is {np.linalg.norm(values[4:]):.0f} m away",
            "write translations in metres, not millimetres",
        )
    return np.column_stack([_rotation(values[:4] / length), values[4:]])


def _rotation(quaternion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn a unit quaternion (w, x, y, z) into its rotation matrix."""
    w, vector = quaternion[0], quaternion[1:]
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + 2 * (w * cross + cross @ cross))


def _as_object_pose(class_id: int, pose: Pose, objects: ObjectModels) -> ObjectPose:
    keypoints = transform(pose, model_points(objects, class_id).numpy())
    return ObjectPose(class_id, pose, keypoints, solved=True, votes=0)


def _check_matches(
    gts: Sequence[GroundTruth], predictions: Predictions, objects: ObjectModels, mesh: Meshes
) -> None:
    if not any(frame_key(gt.name) in predictions for gt in gts):
        named = f"{next(iter(predictions))!r}" if predictions else "none"
        wanted = f"{frame_key(gts[0].name)!r}" if gts else "none"
        raise UserError(
            f"no predicted frame (first: {named}) is among the true ones (first: {wanted})",
            "give predictions and truth of the same frames",
        )
    present = {int(class_id) for gt in gts for class_id in gt.class_ids}
    if missing := sorted(present - set(mesh)):
        names = ", ".join(objects.name(class_id) for class_id in missing)
        raise UserError(f"no model points of {names}", "put points.xyz under models/<object>/")
