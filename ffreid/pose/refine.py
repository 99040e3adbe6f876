"""Refining poses against the measured depth: point-to-plane ICP of small-gicp."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ffreid.errors import UserError
from ffreid.pose.confidence import Floats, visible
from ffreid.pose.data.depth import back_project
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.metrics import transform

METHODS = ("icp",)
REACH = 0.1
"""Of the object's size: how far a vertex and its measured point may be apart."""
CROP = 0.75
"""Of the object's size, around its middle: the measured points that are used."""
NEIGHBOURS, ITERATIONS, LEAST = 20, 30, 50
"""Points that give a normal; updates at most; points that a refinement needs."""


@dataclass(frozen=True)
class Refinement:
    """What a refinement did to a pose.

    Attributes:
        before: (3, 4) pose before.
        camera_from_object: (3, 4) pose after; that before unless `accepted`.
        residual_before: mean distance of the visible vertices from the planes at their nearest
            measured points, metres, at most `REACH` of the object's size each.
        residual_after: the same of the refined pose, whether accepted or not.
        accepted: the residual is smaller after.
    """

    before: npt.NDArray[np.float64]
    camera_from_object: npt.NDArray[np.float64]
    residual_before: float
    residual_after: float
    accepted: bool


Refiner = Callable[[npt.NDArray[np.float64], int, Frame], Refinement | None]


def refiner(method: str | None, meshes: Meshes) -> Refiner | None:
    """What refines a pose of a class in a frame; None where it has no mesh or no depth.

    Raises:
        UserError: the method is unknown, small-gicp is not installed, or there are no meshes.
    """
    if method is None:
        return None
    if method not in METHODS:
        raise UserError(f"unknown refinement {method!r}", f"choose one of: {', '.join(METHODS)}")
    try:
        gicp = import_module("small_gicp")
    except ImportError as error:
        raise UserError(
            "--refine icp needs small-gicp", "install it with pip install 'ffreid[icp]'"
        ) from error
    if not meshes:
        raise UserError(
            "--refine icp needs the objects' meshes", "add --root FOLDER with the dataset's models"
        )

    def refine(pose: npt.NDArray[np.float64], class_id: int, frame: Frame) -> Refinement | None:
        vertices = meshes.get(class_id)
        if vertices is None:
            return None
        return _refine(gicp, pose, np.asarray(vertices, np.float64), frame)

    return refine


def _refine(gicp: Any, pose: Floats, vertices: Floats, frame: Frame) -> Refinement | None:
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    centre = transform(pose, middle[None])[0]
    metres = frame.depth / np.float32(frame.depth_scale)
    points = back_project(metres, frame.intrinsics).reshape(-1, 3).astype(np.float64)
    points = points[points[:, 2] > 0]
    points = points[np.linalg.norm(points - centre, axis=1) < CROP * size]
    source = vertices[visible(pose, vertices, frame.intrinsics)]
    if min(len(points), len(source)) < LEAST:
        return None
    target = gicp.PointCloud(points)
    gicp.estimate_normals(target, num_neighbors=NEIGHBOURS)
    result = gicp.align(
        target,
        gicp.PointCloud(source),
        init_T_target_source=np.vstack([pose, [0, 0, 0, 1]]),
        registration_type="PLANE_ICP",
        max_correspondence_distance=REACH * size,
        max_iterations=ITERATIONS,
        rotation_epsilon=1e-5,
        translation_epsilon=1e-6,
    )
    refined = np.asarray(result.T_target_source, np.float64)[:3]
    tree, normals = cKDTree(points), np.asarray(target.normals())[:, :3]

    def residual(candidate: Floats) -> float:
        moved = transform(candidate, source)
        distances, nearest = tree.query(moved)
        planes = np.abs(((moved - points[nearest]) * normals[nearest]).sum(axis=1))
        return float(np.where(distances < REACH * size, planes, REACH * size).mean())

    before, after = residual(pose), residual(refined)
    accepted = bool(np.isfinite(refined).all() and after < before)
    kept = refined if accepted else np.asarray(pose, np.float64)
    return Refinement(np.asarray(pose, np.float64), kept, before, after, accepted)
