"""Scores of poses: per instance, and summarised per class and overall."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import ConvexHull, cKDTree
from scipy.spatial.distance import pdist

from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.metrics import SearchTree, accuracy_below, add, adds, auc, keypoint_error
from ffreid.pose.objects import ObjectModels
from ffreid.pose.voting.frame import ObjectPose

try:
    from ffreid.pose.boxes import Boxes
except ModuleNotFoundError:  # the extra "fast"
    USE_BOXES = False
else:
    USE_BOXES = True

DIAMETER_SHARES = (0.1, 0.05, 0.02)
"""Thresholds of accuracy, as fractions of an object's diameter."""

METRICS = (
    "ADD_auc",
    "ADD-S_auc",
    "ADD(-S)_auc",
    *(f"{name}<{share}d" for name in ("ADD(-S)", "ADD", "ADD-S") for share in DIAMETER_SHARES),
    "ADD-S<2cm",
)
"""Percentages in every row of a summary."""


@dataclass(frozen=True)
class InstanceScore:
    """Errors of one ground-truth object of one frame (distances in metres).

    `index` is the frame's position in the evaluation's list. `detected` is whether the class was
    predicted in the frame, `solved` whether points were then left to vote for its pose.
    """

    index: int
    frame: str
    class_id: int
    detected: bool
    solved: bool
    add: float
    adds: float
    keypoint_error: float


def mesh_trees(mesh: Meshes) -> dict[int, SearchTree]:
    """Build the search tree of every mesh once, for many frames: `Boxes`, or `cKDTree`."""
    build: Callable[[Any], SearchTree] = Boxes if USE_BOXES else cKDTree
    return {class_id: build(points) for class_id, points in mesh.items()}


def score_frame(
    gt: GroundTruth,
    predictions: Sequence[ObjectPose],
    objects: ObjectModels,
    mesh: Meshes,
    *,
    trees: Mapping[int, SearchTree] | None = None,
) -> list[InstanceScore]:
    """Score every ground-truth object of a frame; false positives cost nothing.

    As in the original, an object not predicted is scored at the zero pose with zero keypoints,
    and an unsolved one at the identity; `detected` and `solved` distinguish them from bad poses.
    Several predictions of a class, the best first, are given to its objects by distance.
    """
    chosen = _assign(gt, predictions)
    scores = []
    for best, class_id, pose, keypoints in zip(
        chosen, gt.class_ids.tolist(), gt.camera_from_object, gt.keypoints_camera, strict=True
    ):
        assert class_id in objects.class_ids, f"{gt.name}: no class {class_id}"
        predicted = np.zeros((3, 4)) if best is None else best.camera_from_object
        voted = np.zeros_like(keypoints) if best is None else best.keypoints[: len(keypoints)]
        points, tree = mesh[class_id], None if trees is None else trees[class_id]
        errors = {
            "add": add(points, predicted, pose),
            "adds": adds(points, predicted, pose, tree=tree),
            "keypoint_error": keypoint_error(voted, keypoints),
        }
        solved = best is not None and best.solved
        scores.append(
            InstanceScore(gt.index, gt.name, class_id, best is not None, solved, **errors)
        )
    return scores


def _assign(gt: GroundTruth, predictions: Sequence[ObjectPose]) -> list[ObjectPose | None]:
    """The prediction that each true object is scored with.

    The first of its class; of several objects and predictions of a class the closest pairs.
    """
    by_class: dict[int, list[ObjectPose]] = {}
    for pose in predictions:
        by_class.setdefault(pose.class_id, []).append(pose)
    chosen: list[ObjectPose | None] = [None] * len(gt.class_ids)
    for class_id, found in by_class.items():
        rows = np.flatnonzero(gt.class_ids == class_id)
        if len(found) == 1 or len(rows) == 1:
            for row in rows:
                chosen[row] = found[0]
            continue
        places = np.array([pose.camera_from_object[:, 3] for pose in found])
        distances = np.linalg.norm(gt.camera_from_object[rows, None, :, 3] - places, axis=2)
        for row, index in zip(*linear_sum_assignment(distances), strict=True):
            chosen[rows[row]] = found[index]
    return chosen


def diameters(objects: ObjectModels, mesh: Meshes) -> dict[int, float]:
    """Diameter of each class, metres: the dataset's, else the mesh's largest distance."""
    if objects.diameters is not None:
        return {c: float(objects.diameters[c - 1]) for c in objects.class_ids}
    return {class_id: _largest_distance(points) for class_id, points in mesh.items()}


def summarise(
    scores: Sequence[InstanceScore], objects: ObjectModels, diameters: Mapping[int, float]
) -> dict[str, Any]:
    """Summarise scores for JSON: percentages, counts, keypoint errors in metres.

    Returns:
        ``classes``: a row for each class that occurs, by name; ``pooled``: over all instances
        (the PoseCNN protocol); ``mean_of_present_classes``; ``mean_of_all_classes``: classes that
        do not occur count 0, the original's "average of all object".
    """
    classes: dict[str, dict[str, Any]] = {}
    for class_id in objects.class_ids:
        if of_class := [score for score in scores if score.class_id == class_id]:
            row = _row(of_class, objects, diameters)
            row |= {"class_id": class_id, "symmetric": class_id in objects.symmetric}
            classes[objects.name(class_id)] = row | {"diameter_m": diameters[class_id]}
    rows = list(classes.values())
    return {
        "dataset": objects.dataset,
        "classes": classes,
        "classes_in_all": len(objects),
        "pooled": _row(scores, objects, diameters),
        "mean_of_present_classes": {
            name: fmean(row[name] for row in rows) if rows else 0.0 for name in METRICS
        },
        "mean_of_all_classes": {
            name: sum(row[name] for row in rows) / len(objects) for name in METRICS
        },
    }


def instance_rows(scores: Sequence[InstanceScore], objects: ObjectModels) -> list[dict[str, Any]]:
    """The errors of every ground-truth object for JSON, in metres."""
    return [
        {
            "frame": score.frame,
            "class": objects.name(score.class_id),
            "detected": score.detected,
            "solved": score.solved,
            "ADD_m": score.add,
            "ADD-S_m": score.adds,
            "keypoint_error_m": score.keypoint_error,
        }
        for score in scores
    ]


def _row(
    scores: Sequence[InstanceScore], objects: ObjectModels, diameters: Mapping[int, float]
) -> dict[str, Any]:
    distances = {
        "ADD": [score.add for score in scores],
        "ADD-S": [score.adds for score in scores],
        "ADD(-S)": [s.adds if s.class_id in objects.symmetric else s.add for s in scores],
    }
    sizes = np.array([diameters[score.class_id] for score in scores])
    detected = [score.keypoint_error for score in scores if score.solved]
    row: dict[str, Any] = {
        "instances": len(scores),
        "missed": sum(not score.detected for score in scores),
        "unsolved": sum(score.detected and not score.solved for score in scores),
    }
    for name, values in distances.items():
        row[f"{name}_auc"] = auc(values)
        for share in DIAMETER_SHARES:
            row[f"{name}<{share}d"] = accuracy_below(values, share * sizes)
    row["ADD-S<2cm"] = accuracy_below(distances["ADD-S"], 0.02)
    row["keypoint_error_m"] = fmean(s.keypoint_error for s in scores) if scores else None
    row["keypoint_error_detected_m"] = fmean(detected) if detected else None
    return row


def _largest_distance(points: npt.NDArray[np.floating]) -> float:
    """Largest distance between two points; the two are on the convex hull."""
    precise = points.astype(np.float64)
    centred = precise - precise.mean(axis=0)
    _, extent, axes = np.linalg.svd(centred, full_matrices=False)
    # A flat set has no hull in 3D: use only the axes along which it extends.
    filled = axes[extent > 1e-6 * extent[0]]
    if len(filled) < 2:
        return float(np.ptp(centred @ filled.T)) if len(filled) else 0.0
    return float(pdist(precise[ConvexHull(centred @ filled.T).vertices]).max())
