"""A mesh with its colours: points on its surface, nearest points, exact diameter."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.distance import cdist

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Colours = npt.NDArray[np.uint8]

_BLOCK = 2000
NEIGHBOURS = 4
"""Samples whose triangles are looked at for the nearest point."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A triangle mesh, metres, object frame.

    Attributes:
        vertices: (P, 3).
        faces: (F, 3) rows of `vertices`.
        colours: (P, 3) RGB of the vertices, or None.
        uv: (P, 2) place of the vertices in the `texture`, from its lower left, or None.
        texture: (H, W, 3) RGB, or None.
    """

    vertices: Floats
    faces: Ints
    colours: Colours | None = None
    uv: Floats | None = None
    texture: Colours | None = None

    @property
    def is_coloured(self) -> bool:
        """Whether the surface has colours."""
        return self.colours is not None or self.texture is not None

    def colours_at(self, faces: Ints, weights: Floats) -> Colours | None:
        """Colours (N, 3) at places in faces, given by barycentric weights (N, 3)."""
        if self.texture is not None and self.uv is not None:
            uv = self._blend(self.uv, faces, weights)
            u, v = np.where((uv < 0) | (uv > 1), uv % 1, uv).T
            height, width = self.texture.shape[:2]
            rows = np.clip((1 - v) * height, 0, height - 1).astype(int)
            columns = np.clip(u * width, 0, width - 1).astype(int)
            return np.asarray(self.texture[rows, columns])
        if self.colours is None:
            return None
        return self._blend(self.colours.astype(float), faces, weights).round().astype(np.uint8)

    def _blend(self, values: Floats, faces: Ints, weights: Floats) -> Floats:
        blended: Floats = (values[self.faces[faces]] * weights[:, :, None]).sum(axis=1)
        return blended

    def centroid(self) -> Floats:
        """The middle (3,) of the surface, by area."""
        corners = self.vertices[self.faces]
        areas = _areas(corners)
        centroid: Floats = (corners.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum()
        return centroid


@dataclass(frozen=True)
class Samples:
    """Points (N, 3) on a surface, in the `faces` (N,), at barycentric `weights` (N, 3)."""

    points: Floats
    faces: Ints
    weights: Floats


def sample(vertices: Floats, faces: Ints, count: int) -> Samples:
    """Draw points on a surface by area, with a fixed seed."""
    rng = np.random.default_rng(0)
    areas = _areas(vertices[faces]).cumsum()
    places = (np.arange(count) + rng.random(count)) / count * areas[-1]
    chosen = np.searchsorted(areas, places).clip(0, len(faces) - 1)
    root, second = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - second), root * second], axis=1)
    points = (vertices[faces[chosen]] * weights[:, :, None]).sum(axis=1)
    return Samples(points, chosen, weights)


def _areas(corners: Floats) -> Floats:
    edges = corners[:, 1:] - corners[:, :1]
    areas: Floats = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    return areas


class Nearest:
    """Nearest points of a surface: in the triangles of the nearest of its `samples`."""

    def __init__(self, surface: Surface, samples: Samples) -> None:
        self.surface, self.samples = surface, samples
        self.tree = cKDTree(samples.points)

    def __call__(self, points: Floats) -> tuple[Floats, Ints, Floats]:
        """Nearest points (N, 3), their faces (N,), and barycentric weights (N, 3) in them."""
        triangles: Any = import_module("trimesh.triangles")
        found = self.samples.faces[self.tree.query(points, k=NEIGHBOURS)[1]]  # (N, k)
        corners = self.surface.vertices[self.surface.faces[found.ravel()]]
        near: Any = triangles.closest_point(corners, np.repeat(points, NEIGHBOURS, axis=0))
        near = near.reshape(-1, NEIGHBOURS, 3)
        best = np.linalg.norm(near - points[:, None], axis=2).argmin(axis=1)
        row = np.arange(len(points))
        face, place = found[row, best], near[row, best]
        corners = corners.reshape(-1, NEIGHBOURS, 3, 3)[row, best]
        weights = np.nan_to_num(triangles.points_to_barycentric(corners, place), nan=1 / 3)
        return place, face, weights.clip(0, 1)


def diameter(vertices: Floats) -> float:
    """The largest distance of two vertices, which are on their convex hull."""
    try:
        hull = vertices[ConvexHull(vertices).vertices]
    except QhullError:  # flat: moved by rounding errors it is not
        hull = vertices[ConvexHull(vertices, qhull_options="QJ").vertices]
    parts = (hull[i : i + _BLOCK] for i in range(0, len(hull), _BLOCK))
    return max(float(cdist(part, hull).max()) for part in parts)
