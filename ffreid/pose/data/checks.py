"""Checks of a few frames of a dataset: their labels, their cameras, and points against meshes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError, cKDTree

from ffreid.pose.data.frame import Frame, repeated_classes
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.objects import ObjectModels

Floats = npt.NDArray[np.floating]
Trees = Callable[[int], tuple[cKDTree, float]]
"""The tree of a class's vertices, and how far its surface may be from them, see `mesh_trees`."""

FRAMES = 4
"""Frames of each list that are looked at, evenly spread."""
POINTS = 500
"""Labelled points of an object in a frame, at most, and at least a twenty-fifth."""
NOISE, NOISE_PER_METRE = 0.01, 0.02
"""Median distance of measured points from a sound mesh, at most, at 0 m and more at 1 m."""
SAME_CAMERA = 2.0
"""Pixels by which equal intrinsics may differ."""


def spread(names: Sequence[str]) -> list[str]:
    """The names of the frames that are looked at."""
    return [names[i * len(names) // FRAMES] for i in range(FRAMES)] if names[FRAMES:] else [*names]


class Labels(NamedTuple):
    """Which objects a frame lists, and whether a pixel of them is labelled."""

    frame: str
    class_ids: Sequence[int]
    labelled: bool


def count_notes(
    frames: Sequence[Labels], objects: ObjectModels, *, looked_at: bool = True
) -> list[str]:
    """Count frames without labelled pixels, and with several objects of a class."""
    empty = [frame for frame in frames if frame.class_ids and not frame.labelled]
    repeated = [(f, i) for f in frames for i in repeated_classes(f.class_ids)[:1]]
    share = f"of {len(frames)} frames" + " looked at" * looked_at
    notes = []
    if empty:
        notes.append(
            f"{len(empty)} {share} have no labelled pixel of their objects, e.g. "
            f"{empty[0].frame}: check the masks or label images"
        )
    if repeated:
        frame, class_id = repeated[0]
        notes.append(
            f"{len(repeated)} {share} have several objects of a class, e.g. {frame.frame} of "
            f"{objects.name(class_id)}: they are not used for training, and in an evaluation at "
            "most one of the objects can be found"
        )
    return notes


def camera_notes(frames: Sequence[Frame]) -> list[str]:
    """Tell that frames have intrinsics of their own which are not used."""
    unused = [
        (frame, stored)
        for frame in frames
        if (stored := frame.stored_intrinsics) is not None
        and np.abs(stored - frame.intrinsics).max() > SAME_CAMERA
    ]
    if not unused:
        return []
    frame, stored = unused[0]
    own, used = (f"fx {k[0, 0]:.1f} and cx {k[0, 2]:.1f}" for k in (stored, frame.intrinsics))
    return [
        f"{len(unused)} of {len(frames)} frames looked at are stored with other intrinsics, e.g. "
        f"{frame.name} with {own}, than those in use, {used}: set DATA.INTRINSICS meta to use them"
    ]


def label_notes(frames: Sequence[Frame], objects: ObjectModels) -> list[str]:
    """Tell of labelled pixels of objects that have no pose: they would be trained towards 0."""
    unposed = [
        (frame, absent)
        for frame in frames
        if (absent := set(np.unique(frame.labels).tolist()) - {0, *frame.class_ids.tolist()})
    ]
    if not unposed:
        return []
    frame, ids = unposed[0]
    return [
        f"{len(unposed)} of {len(frames)} frames looked at have labelled pixels of objects without "
        f"a pose, e.g. {frame.name} of {objects.name(min(ids))}: check the labels or add the poses"
    ]


class Fit(NamedTuple):
    """How an object's labelled points fit its mesh, in one frame (metres).

    `distance` is their median distance from the placed mesh, `transposed` that with the transposed
    rotation, `limit` what noise explains; `measured` and `placed` are depths. `points` are those
    compared (P, 3), camera frame, and `poses` those of the class (M, 3, 4).
    """

    class_id: int
    frame: str
    distance: float
    transposed: float
    limit: float
    measured: float
    placed: float
    points: Floats
    poses: Floats


def geometry_notes(
    frames: Mapping[str, Sequence[Frame]], objects: ObjectModels, meshes: Meshes
) -> list[str]:
    """Tell how far labelled points are from the placed meshes, where that is more than noise."""
    found: dict[tuple[str, int], list[Fit]] = {}
    trees = mesh_trees(objects, meshes)
    for group, frame in ((name, frame) for name, members in frames.items() for frame in members):
        for fit in fits(frame, trees):
            found.setdefault((group, fit.class_id), []).append(fit)
    every = [fit for members in found.values() for fit in members]
    notes, off = [], []
    for (group, class_id), members in found.items():
        middle = sorted(members, key=lambda fit: fit.distance / fit.limit)[len(members) // 2]
        if np.median([fit.distance / fit.limit for fit in members]) > 1:
            off.append((middle, group, class_id, len(members)))
    if off:
        fit, group, class_id, count = max(off, key=lambda item: item[0].distance / item[0].limit)
        more = len({class_id for *_, class_id, _ in off}) - 1
        ratios = np.array([fit.measured / fit.placed for fit, *_ in off if fit.placed])
        ratio = float(np.median(ratios)) if len(ratios) else 0.0
        if (ratios <= 0).any():
            cause = "poses lie behind the camera: are they inverted, or in OpenGL axes?"
        elif not 0.8 < ratio < 1.25 and (np.abs(ratios - ratio) < 0.2 * ratio).all():
            cause = f"check the units: measured depth is {ratio:.3g} times that of the poses"
        else:
            cause = "check intrinsics, poses, labels, meshes, and that they are of the same frame"
        notes.append(
            f"the labelled points of {objects.name(class_id)} are {fit.distance:.3g} m from its "
            f"mesh at the true pose (median in {count} {group} frame{'s' * (count > 1)}, e.g. "
            f"{fit.frame}; up to {fit.limit:.2g} m is usual)"
            + f", those of {more} more are also off" * (more > 0)
            + f"; measured at {fit.measured:.3g} m and posed at {fit.placed:.3g} m: {cause}"
        )
    if every and 2 * sum(f.transposed for f in every) < sum(f.distance for f in every):
        notes.append(
            "the labelled points fit the meshes better if the rotations are transposed (median "
            f"{np.median([f.transposed for f in every]):.2g} m instead of "
            f"{np.median([f.distance for f in every]):.2g} m): check the order of their numbers"
        )
    return notes


def mesh_trees(objects: ObjectModels, meshes: Meshes) -> Trees:
    """Trees that are made once per class, of the keypoints where an object has no mesh."""

    @cache
    def tree(class_id: int) -> tuple[cKDTree, float]:
        mesh = meshes.get(class_id, objects.keypoints[class_id - 1])
        return cKDTree(mesh), _gap(mesh)

    return tree


def fits(frame: Frame, trees: Trees) -> Iterator[Fit]:
    """Compare each object of a frame that has enough labelled points with depth."""
    for class_id in sorted(set(frame.class_ids.tolist())):
        pixels = np.flatnonzero((frame.labels == class_id) & (frame.depth > 0))
        if len(pixels) < POINTS // 25:
            continue
        points = _points(frame, pixels[:: -(-len(pixels) // POINTS)])
        tree, gap = trees(class_id)
        poses = frame.camera_from_object[frame.class_ids == class_id].astype(np.float64)
        distance = fit_distance(tree, points, poses)
        transposed = fit_distance(tree, points, transpose_rotations(poses))
        depth = float(np.median(points[:, 2]))
        limit = usual_distance(gap, points)
        placed = float(poses[0, 2, 3])
        yield Fit(class_id, frame.name, distance, transposed, limit, depth, placed, points, poses)


def usual_distance(gap: float, points: Floats) -> float:
    """How far points (P, 3) of a sound frame may be from a mesh, in the median."""
    return gap + NOISE + NOISE_PER_METRE * float(np.median(points[:, 2]))


def fit_distance(tree: cKDTree, points: Floats, poses: Floats) -> float:
    """Median distance of points (P, 3) from the mesh at the nearest of its poses (M, 3, 4)."""
    moved = [tree.query((points - pose[:, 3]) @ pose[:, :3])[0] for pose in poses]
    return float(np.median(np.min(moved, axis=0)))


def transpose_rotations(poses: Floats) -> Floats:
    """Poses (M, 3, 4) with transposed rotations."""
    return np.concatenate([poses[:, :, :3].transpose(0, 2, 1), poses[:, :, 3:]], axis=2)


def _points(frame: Frame, pixels: npt.NDArray[np.intp]) -> Floats:
    """Measured points (P, 3) of flat pixels, metres, camera frame."""
    rows, columns = np.divmod(pixels, frame.depth.shape[1])
    (fx, _, cx), (_, fy, cy), _ = frame.intrinsics.astype(np.float64)
    z = frame.depth.reshape(-1)[pixels].astype(np.float64) / frame.depth_scale
    return np.stack([(columns - cx) * z / fx, (rows - cy) * z / fy, z], axis=1)


def _gap(mesh: Floats) -> float:
    """How far half of a mesh's hull is from the nearest vertex: small unless vertices are few."""
    try:
        triangles = mesh[ConvexHull(mesh).simplices].astype(np.float64)
    except QhullError:  # flat
        return float(np.linalg.norm(np.ptp(mesh, axis=0))) / 2
    one, other = (triangles[:, i] - triangles[:, 0] for i in (1, 2))
    areas = np.linalg.norm(np.cross(one, other), axis=1)
    gaps = cKDTree(mesh).query(triangles.mean(axis=1))[0]
    order = np.argsort(gaps)
    covered = np.cumsum(areas[order])
    return float(gaps[order][np.searchsorted(covered, covered[-1] / 2)])
