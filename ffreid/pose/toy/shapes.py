"""Solids with exact ray intersection: box, ellipsoid, frustum, unions (metres, object frame).

Every solid has the same four members: `half_extents`, `intersect`, `normals` and `support`.
"""

import itertools
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def surface_points(shape: "Shape", count: int, generator: np.random.Generator) -> Floats:
    """Draw (count, 3) points uniformly from the surface of `shape`, metres.

    Isotropic random lines meet a convex surface with equal density everywhere, so the points at
    which they enter are uniform by area, whatever the solid. In a union the points inside of
    another part are left out.
    """
    radius = float(np.linalg.norm(shape.half_extents))
    parts = shape.parts if isinstance(shape, Union) else (Part(shape),)
    points = np.zeros((0, 3))
    while len(points) < count:
        directions = _unit(generator.normal(size=(4 * count, 3)))
        across = _unit(np.cross(directions, generator.normal(size=(4 * count, 3))))
        offsets = radius * np.sqrt(generator.random((4 * count, 1)))
        origins = across * offsets - 2 * radius * directions
        distance = np.stack([part.intersect(origins, directions) for part in parts], axis=1)
        kept = np.isfinite(distance)
        entries = origins[:, None] + np.where(kept, distance, 0)[..., None] * directions[:, None]
        for index, part in enumerate(parts):
            inside = part.beyond(entries.reshape(-1, 3)).reshape(kept.shape) < 0
            inside[:, index] = False
            kept &= ~inside
        points = np.concatenate([points, entries[kept]])
    return points[:count]


def box_corners(half_extents: npt.ArrayLike) -> Floats:
    """(8, 3) corners of the box -h … h, in the order (min, max x) x (min, max y) x (min, max z)."""
    half = np.asarray(half_extents, np.float64)
    return np.array(list(itertools.product((-1.0, 1.0), repeat=3))) * half


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _nonzero(values: Floats) -> Floats:
    return np.where(np.abs(values) < 1e-12, 1e-12, values)


@dataclass(frozen=True)
class _HalfSizes:
    """Half the size along x, y, z, metres."""

    half: tuple[float, float, float]

    @property
    def half_extents(self) -> Floats:
        """(3,) half the size of the bounding box, metres."""
        return np.array(self.half)


class Box(_HalfSizes):
    """A box around the origin."""

    def intersect(self, origins: Floats, directions: Floats) -> Floats:
        """(N,) ray parameter at which each ray enters from outside, infinity for a miss.

        `origins` are (3,) or (N, 3), `directions` (N, 3) the unit of the parameter.
        """
        inverse = 1 / _nonzero(directions)
        first = (-self.half_extents - origins) * inverse
        second = (self.half_extents - origins) * inverse
        # Column by column: numpy reduces a short last axis slowly.
        near: Floats = reduce(np.maximum, np.minimum(first, second).T)
        far: Floats = reduce(np.minimum, np.maximum(first, second).T)
        return np.where((near <= far) & (near > 0), near, np.inf)

    def normals(self, points: Floats) -> Floats:
        """(N, 3) outward unit normals at surface points (N, 3)."""
        relative = points / self.half_extents
        axis = np.abs(relative).argmax(axis=-1)
        rows = np.arange(len(points))
        normals = np.zeros_like(points)
        normals[rows, axis] = np.sign(relative[rows, axis])
        return normals

    def support(self, direction: Floats) -> float:
        """Largest extent along a unit `direction` (3,), metres from the origin."""
        return float(np.abs(direction) @ self.half_extents)


class Ellipsoid(_HalfSizes):
    """An ellipsoid around the origin; members as in `Box`."""

    def intersect(self, origins: Floats, directions: Floats) -> Floats:
        """Ray parameter of the entry, infinity for a miss."""
        start, step = origins / self.half_extents, directions / self.half_extents
        a, b = (step * step).sum(-1), (start * step).sum(-1)
        inside = b * b - a * ((start * start).sum(-1) - 1)
        near = (-b - np.sqrt(np.maximum(inside, 0))) / a
        return np.where((inside >= 0) & (near > 0), near, np.inf)

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals."""
        return _unit(points / self.half_extents**2)

    def support(self, direction: Floats) -> float:
        """Largest extent along `direction`."""
        return float(np.linalg.norm(direction * self.half_extents))


@dataclass(frozen=True)
class Frustum:
    """A cylinder (equal radii), a truncated cone or a cone (one radius 0) along z; see `Box`.

    `bottom` and `top` are the radii at z = -half_height and z = half_height, metres.
    """

    bottom: float
    top: float
    half_height: float

    @property
    def half_extents(self) -> Floats:
        """(3,) half the size of the bounding box, metres."""
        widest = max(self.bottom, self.top)
        return np.array([widest, widest, self.half_height])

    @property
    def slope(self) -> float:
        """Growth of the radius along z."""
        return (self.top - self.bottom) / (2 * self.half_height)

    def radius(self, z: Floats) -> Floats:
        """Radius at height z, metres."""
        return (self.bottom + self.top) / 2 + self.slope * z

    def intersect(self, origins: Floats, directions: Floats) -> Floats:
        """Ray parameter of the entry, infinity for a miss."""
        start_x, start_y, start_z = np.moveaxis(np.asarray(origins), -1, 0)
        step_x, step_y, step_z = np.moveaxis(directions, -1, 0)
        radius = self.radius(start_z)
        a = _nonzero(step_x**2 + step_y**2 - (self.slope * step_z) ** 2)
        b = start_x * step_x + start_y * step_y - self.slope * step_z * radius
        inside = b * b - a * (start_x**2 + start_y**2 - radius**2)
        root = np.sqrt(np.maximum(inside, 0))
        sides = np.stack([(-b - root) / a, (-b + root) / a])
        heights = start_z + sides * step_z
        on_side = (inside >= 0) & (np.abs(heights) <= self.half_height)
        levels = np.array([[-self.half_height], [self.half_height]])
        caps = (levels - start_z) / _nonzero(step_z)
        across = (start_x + caps * step_x) ** 2 + (start_y + caps * step_y) ** 2
        on_cap = across <= np.array([[self.bottom**2], [self.top**2]])
        distances = np.concatenate([sides, caps])
        valid = np.concatenate([on_side, on_cap]) & (distances > 0)
        nearest: Floats = np.where(valid, distances, np.inf).min(axis=0)
        return nearest

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals."""
        x, y, z = points.T
        radius = self.radius(z)
        side = _unit(np.stack([x, y, _nonzero(-self.slope * radius)], axis=-1))
        cap = np.stack([0 * z, 0 * z, np.sign(z)], axis=-1)
        on_cap = self.half_height - np.abs(z) < np.abs(radius - np.hypot(x, y))
        return np.where(on_cap[:, None], cap, side)

    def support(self, direction: Floats) -> float:
        """Largest extent along `direction`."""
        across = float(np.hypot(direction[0], direction[1]))
        rise = float(direction[2]) * self.half_height
        return max(self.bottom * across - rise, self.top * across + rise)


Convex = Box | Ellipsoid | Frustum


@dataclass(frozen=True)
class Part:
    """A convex solid around `centre`, metres."""

    solid: Convex
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def intersect(self, origins: Floats, directions: Floats) -> Floats:
        """Ray parameter of the entry, infinity for a miss."""
        return self.solid.intersect(origins - self.centre, directions)

    def beyond(self, points: Floats) -> Floats:
        """(N,) distance from the surface along the ray from the centre, below 0 inside, metres."""
        relative = points - self.centre
        distance = np.linalg.norm(relative, axis=-1)
        outwards = relative / _nonzero(distance)[:, None]
        far = 2 * float(np.linalg.norm(self.solid.half_extents))
        surface = far - self.solid.intersect(far * outwards, -outwards)
        beyond: Floats = distance - surface
        return beyond


@dataclass(frozen=True)
class Union:
    """Parts that touch or intersect, the origin in the middle of their box; see `Box`."""

    parts: tuple[Part, ...]

    @classmethod
    def centred(cls, *parts: tuple[Convex, tuple[float, float, float]]) -> Self:
        """Union of solids around centres in any frame, moved to the middle of their box."""
        halves = np.stack([solid.half_extents for solid, _ in parts])
        centres = np.array([centre for _, centre in parts])
        middle = ((centres - halves).min(axis=0) + (centres + halves).max(axis=0)) / 2
        moved = (centres - middle).tolist()
        return cls(
            tuple(
                Part(solid, (x, y, z)) for (solid, _), (x, y, z) in zip(parts, moved, strict=True)
            )
        )

    @property
    def half_extents(self) -> Floats:
        """(3,) half the size of the bounding box, metres."""
        extents = [np.abs(part.centre) + part.solid.half_extents for part in self.parts]
        largest: Floats = np.max(extents, axis=0)
        return largest

    def intersect(self, origins: Floats, directions: Floats) -> Floats:
        """Ray parameter of the entry, infinity for a miss."""
        nearest: Floats = np.min([p.intersect(origins, directions) for p in self.parts], axis=0)
        return nearest

    def part_of(self, points: Floats) -> npt.NDArray[np.intp]:
        """(N,) index of the part on whose surface each point (N, 3) is."""
        nearest: npt.NDArray[np.intp] = np.abs([p.beyond(points) for p in self.parts]).argmin(
            axis=0
        )
        return nearest

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals."""
        owner, normals = self.part_of(points), np.zeros_like(points)
        for index, part in enumerate(self.parts):
            own = owner == index
            normals[own] = part.solid.normals(points[own] - part.centre)
        return normals

    def support(self, direction: Floats) -> float:
        """Largest extent along `direction`."""
        return max(
            float(direction @ np.array(part.centre)) + part.solid.support(direction)
            for part in self.parts
        )


Shape = Convex | Union
