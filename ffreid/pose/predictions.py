"""Score poses of other methods: text files per scene and object, or a BOP results file.

The text format has one file ``<scene>_<object>.txt`` for each object of a scene and in it a line
``qw qx qy qz tx ty tz`` (metres) for each of the scene's frames, in the order in which a frames
file lists them (``0048/000001`` per line); an all-zero line means that the object is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_lines
from ffreid.engine.distributed.group import cores
from ffreid.errors import UserError, flat
from ffreid.files import check_file
from ffreid.pose.bop.results import read_results
from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.data.sample import make_ground_truth
from ffreid.pose.metrics import transform
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource
from ffreid.pose.scoring import InstanceScore, mesh_trees, score_frame
from ffreid.pose.voting.frame import ObjectPose, model_points

Pose = npt.NDArray[np.float64]
Predictions = Mapping[str, Sequence[tuple[int, Pose]]]
"""Class ids and (3, 4) poses in metres of each frame ``0048/000001``, the best of a class first."""

OTHER_FRAME = "poses of other frames"
ABSENT = "poses of objects that are not in the frame"
NOT_BEST = "further poses of an object in a frame"
"""Reasons not to score a predicted pose."""

_FARTHEST = 50.0
_LINE_HINT = "write 'qw qx qy qz tx ty tz', translations in metres"


def read_predictions(path: Path, objects: ObjectModels, frames_file: Path | None) -> Predictions:
    """Read predicted poses from a folder of text files or from a BOP results file ``*.csv``.

    `frames_file` lists the frames of the lines of text files; a CSV needs none.
    """
    if path.is_file():
        return read_bop_csv(path, objects)
    if frames_file is None:
        raise UserError(f"{path}: the frame of each line is unknown", "add --frames FILE")
    return read_text_poses(path, read_frames(frames_file), objects)


def gt_from_folder(folder: Path, frames_file: Path, objects: ObjectModels) -> list[GroundTruth]:
    """Read ground truth in the text format for each frame of `frames_file`, without intrinsics."""
    frames = read_frames(frames_file)
    poses = read_text_poses(folder, frames, objects)
    gts = []
    for index, frame in enumerate(frames):
        class_ids = np.array([class_id for class_id, _ in poses.get(frame, ())], np.int32)
        matrices = np.array([pose for _, pose in poses.get(frame, ())]).reshape(-1, 3, 4)
        gts.append(make_ground_truth(frame, class_ids, matrices, objects, index=index))
    return gts


def score_predictions(
    gts: Sequence[GroundTruth],
    predictions: Predictions,
    objects: ObjectModels,
    mesh: Meshes,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[InstanceScore]:
    """Score predicted poses against ground truth; objects without a prediction count as missed.

    Keypoint errors are those of the model's keypoints under the poses. Frames are matched by the
    last two parts of their names (``data/0048/000001`` is ``0048/000001``); what is not scored is
    counted by `count_unscored`. `progress` is called with the numbers of scored and of all frames.

    Raises:
        UserError: no frame has both ground truth and a prediction.
    """
    if not any(frame_key(gt.name) in predictions for gt in gts):
        first = next(iter(predictions), "none")
        expected = frame_key(gts[0].name) if gts else "none"
        raise UserError(
            f"no frame has both a prediction (first: {first}) and ground truth (first: {expected})",
            "use predictions and ground truth of the same frames",
        )
    trees = mesh_trees(mesh)

    def scores_of(gt: GroundTruth) -> list[InstanceScore]:
        poses = []
        for class_id, pose in predictions.get(frame_key(gt.name), ()):
            keypoints = transform(pose, model_points(objects, class_id).numpy())
            poses.append(ObjectPose(class_id, pose, keypoints, solved=True, votes=0))
        return score_frame(gt, poses, objects, mesh, trees=trees)

    scores: list[InstanceScore] = []
    with ThreadPoolExecutor(cores()) as pool:
        for done, found in enumerate(pool.map(scores_of, gts), start=1):
            scores += found
            if progress is not None:
                progress(done, len(gts))
    return scores


def count_unscored(gts: Sequence[GroundTruth], predictions: Predictions) -> dict[str, int]:
    """Count the predicted poses that `score_predictions` does not score, by reason."""
    classes = {frame_key(gt.name): set(gt.class_ids.tolist()) for gt in gts}
    counts = dict.fromkeys((OTHER_FRAME, ABSENT, NOT_BEST), 0)
    for frame, poses in predictions.items():
        seen: set[int] = set()
        for class_id, _ in poses:
            if frame not in classes:
                counts[OTHER_FRAME] += 1
            elif class_id not in classes[frame]:
                counts[ABSENT] += 1
            else:
                counts[NOT_BEST] += class_id in seen
                seen.add(class_id)
    return counts


def unread_files(folder: Path, frames_file: Path | None) -> int:
    """Count the text files in `folder` that are of no scene in `frames_file`."""
    scenes = {frame.split("/")[0] for frame in read_frames(frames_file)} if frames_file else set()
    return sum(path.stem.partition("_")[0] not in scenes for path in folder.glob("*.txt"))


def frame_key(name: str) -> str:
    """The last two parts of a frame's name, ``0048/000001``."""
    return "/".join(name.split("/")[-2:])


def read_frames(path: Path) -> list[str]:
    """Read a list of frames, ``<scene>/<frame>`` per line (folders before that are dropped)."""
    check_file(path, "file", "--frames takes a list with lines like 0048/000001")
    frames: dict[str, None] = {}
    for line in read_lines(path):
        key = frame_key(line)
        if key.count("/") != 1 or key in frames:
            problem = "is listed twice" if key in frames else "is not a frame"
            raise UserError(f"{path}: {line!r} {problem}", "write e.g. 0048/000001")
        frames[key] = None
    return list(frames)


def read_text_poses(folder: Path, frames: Sequence[str], objects: ObjectModels) -> Predictions:
    """Read ``<scene>_<object>.txt`` of every scene in `frames`; other scenes are ignored.

    Raises:
        UserError: there is no such file, its object is unknown, its lines do not match the
            scene's frames, or a line is not a pose.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "use a folder of <scene>_<object>.txt files")
    by_scene: dict[str, list[str]] = {}
    for frame in frames:
        by_scene.setdefault(frame.split("/")[0], []).append(frame)
    poses: dict[str, list[tuple[int, Pose]]] = {}
    files = [p for p in sorted(folder.glob("*_*.txt")) if p.stem.split("_", 1)[0] in by_scene]
    if not files:
        raise UserError(
            f"{folder} has no <scene>_<object>.txt of the scenes {', '.join(by_scene)}",
            "use the folder with these files, and frames of the same scenes",
        )
    for file in files:
        scene, name = file.stem.split("_", 1)
        if name not in objects.names:
            known = get_close_matches(name, objects.names, n=1) or objects.names
            raise UserError(f"{file}: unknown object {name!r}", f"known: {', '.join(known)}")
        class_id = objects.names.index(name) + 1
        check_file(file, "file", "remove it from the folder")
        lines = file.read_text("utf-8-sig", "replace").splitlines()
        rows = [
            _parse_pose(line, f"{file}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        if len(rows) != len(by_scene[scene]):
            raise UserError(
                f"{file}: {len(rows)} lines for {len(by_scene[scene])} frames of scene {scene}",
                "write one line for each frame of --frames FILE, zeros where there is no pose",
            )
        for frame, pose in zip(by_scene[scene], rows, strict=True):
            if pose is not None:
                poses.setdefault(frame, []).append((class_id, pose))
    return poses


def _parse_pose(line: str, where: str) -> Pose | None:
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError as error:
        raise UserError(f"{where}: {flat(str(error))}", _LINE_HINT) from error
    if len(values) != 7:
        raise UserError(f"{where}: {len(values)} numbers instead of 7", _LINE_HINT)
    if not np.isfinite(values).all():
        raise UserError(f"{where}: NaN or infinity", "write zeros where there is no pose")
    if not values.any():
        return None
    length, distance = np.linalg.norm(values[:4]), np.linalg.norm(values[4:])
    if length < 1e-6:
        raise UserError(f"{where}: the quaternion is zero", _LINE_HINT)
    if distance > _FARTHEST:
        raise UserError(
            f"{where}: the object is {distance:.0f} m away",
            "write translations in metres, not millimetres",
        )
    w, x, y, z = values[:4] / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.column_stack([np.eye(3) + 2 * (w * cross + cross @ cross), values[4:]])


def read_bop_csv(path: Path, objects: ObjectModels) -> Predictions:
    """Read BOP results; several poses of an object in an image are sorted, the best scored first.

    BOP moved the origins of the YCB-Video models: poses are converted to the original ones.
    ``obj_id`` is one of the objects' numbers. A frame is ``<scene:04d>/<image:06d>``.
    """
    poses: dict[str, list[tuple[int, Pose]]] = {}
    for row in sorted(read_results(path, objects.numbers), key=lambda row: -row.score):
        class_id = objects.numbers.index(row.object_id) + 1
        pose = row.pose.copy()
        pose[:, 3] /= 1000
        pose[:, 3] += pose[:, :3] @ _bop_offset(class_id, objects)
        poses.setdefault(f"{row.scene:04d}/{row.image:06d}", []).append((class_id, pose))
    return poses


def to_bop(pose: Pose, class_id: int, objects: ObjectModels) -> Pose:
    """The pose (3, 4) of BOP's model of an object, metres."""
    moved = pose.copy()
    moved[:, 3] -= pose[:, :3] @ _bop_offset(class_id, objects)
    return moved


def _bop_offset(class_id: int, objects: ObjectModels) -> Pose:
    """What a point of BOP's model is more than the original's, metres."""
    if objects.dataset != "ycb":
        return np.zeros(3)
    offset = resource("published")["bop_ycbv_offsets_mm"][objects.name(class_id)]
    return np.array(offset) / 1000
