"""Rotational symmetries of a surface, found by matching it with itself.

A rotation is a symmetry if `POINTS` points, turned by it about the surface's middle, lie on the
surface within `TOLERANCE` of the diameter; where the surface has colours, those of `SHARE` of the
points must be found there as well.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ffreid.pose.keypoints import farthest_points
from ffreid.pose.object_set.surface import Floats, Nearest, Surface, sample

TOLERANCE = 0.01
"""Largest distance of a turned point from the surface, as a fraction of the diameter."""
LEVELS, SHARE = 40, 0.98
"""Levels of 255 by which colours may differ, of this share of the points."""
POINTS = 400
_DENSE, _PATCH = 20_000, 30
"""Samples of the surface; samples whose mean is the colour of a point."""
_GRID = 40_000
"""Rotations that are tried: the nearest of any rotation is at most about 6 degrees away."""
_STAGES, _COARSE, _NEAR, _LIKE = (12, 60), 2000, 0.08, 0.7
"""Numbers of points that a tried rotation is measured on, and of samples that they are compared
with; how near they must be, and the share of them that must have these samples' colours."""
_APART = 0.2
"""Radians within which two rotations are one."""
_HIGHEST = 15
"""Order of a discrete symmetry: a prism of more sides is round within the tolerance."""
_TURNS = 1 + np.arange(16) * math.sqrt(2)
"""Angles, none a whole fraction of a turn, that must all match for a continuous symmetry."""
_UPDATES, _FITTED = 15, 300
"""Iterated closest points: updates at most, and points."""


def find_symmetries(surface: Surface, diameter: float) -> tuple[list[Floats], list[Floats], Floats]:
    """Find the rotations that move a surface onto itself.

    Returns:
        (3, 3) rotations of discrete symmetries, without the identity and without those that a
        continuous one contains; axes (3,) of continuous symmetries, two for a sphere; and the
        middle (3,) that all of them leave in place.
    """
    matcher = _Matcher(surface, diameter)
    rotations = matcher.candidates()
    found: list[Floats] = []
    axes: list[Floats] = []
    while len(rotations):
        fitted = matcher.fit(rotations[0])
        if fitted is not None and not _contained(fitted[None], found, axes)[0]:
            axis = matcher.continuous(fitted)
            if axis is not None:
                axes.append(axis)
                if len(axes) == 2:  # of a sphere
                    return [], axes, matcher.centre
                found = [r for r in found if not _contained(r[None], [], axes)[0]]
            elif matcher.is_cyclic(fitted):
                found.append(fitted)
        # Where no symmetry is reached, none is near; else another one may be.
        tried = _contained(rotations, [rotations[0]], [], 0.15 if fitted is None else 0.05)
        rotations = rotations[~tried & ~_contained(rotations, found, axes)]
    if found and axes:  # what turns the axis over is one with all turns about the axis
        found = [_flip(axes[0])]
    return found, axes, matcher.centre


def _flip(axis: Floats) -> Floats:
    """Half a turn about an axis at right angles to `axis`, one of x, y, z if possible."""
    along = np.eye(3)[np.abs(axis).argmin()]
    across = along - (along @ axis) * axis
    return np.asarray(Rotation.from_rotvec(np.pi * across / np.linalg.norm(across)).as_matrix())


class _Matcher:
    """The surface about its middle, in units of the diameter."""

    def __init__(self, surface: Surface, diameter: float) -> None:
        samples = sample(surface.vertices, surface.faces, _DENSE)
        self.centre, self.diameter = surface.centroid(), diameter
        self.nearest = Nearest(surface, samples)
        dense = (samples.points - self.centre) / diameter
        chosen = farthest_points(dense, POINTS, init_centre=True)
        self.points = dense[chosen]
        self.coarse = cKDTree(dense[:: _DENSE // _COARSE])
        self.colours: Floats | None = None
        features = dense
        colours = surface.colours_at(samples.faces, samples.weights)
        if colours is not None:
            patches = cKDTree(dense).query(dense, k=_PATCH)[1]
            self.smooth = colours[patches].mean(axis=1)
            self.colours = self.smooth[chosen]
            # The colour's tolerance counts as much as that of the place.
            features = np.hstack([dense, self.smooth * (TOLERANCE / LEVELS)])
        self.dense, self.features = dense, cKDTree(features)

    def candidates(self) -> Floats:
        """Rotations (N, 3, 3) that nearly match, the best first."""
        rotations = _grid()
        rotations = rotations[Rotation.from_matrix(rotations).magnitude() > _APART]
        for count in _STAGES:
            moved = self.points[:count] @ rotations.transpose(0, 2, 1)
            gaps, nearest = self.coarse.query(moved.reshape(-1, 3))
            errors = gaps.reshape(-1, count).max(axis=1)
            near = errors < _NEAR
            if self.colours is not None:
                gaps = np.abs(
                    self.smooth[:: _DENSE // _COARSE][nearest]
                    - np.tile(self.colours[:count], (len(rotations), 1))
                ).max(axis=1)
                near &= (gaps.reshape(-1, count) < LEVELS).mean(axis=1) > _LIKE
            rotations = rotations[near][errors[near].argsort()]
        return np.asarray(rotations)

    def fit(self, rotation: Floats) -> Floats | None:
        """The symmetry near `rotation`; None if there is none."""
        fitted = self._closest(rotation)
        return next((r for r in (_tidied(fitted), fitted) if self.matches(r)), None)

    def _closest(self, rotation: Floats) -> Floats:
        """Iterate closest points."""
        for _ in range(_UPDATES):
            nearest = self.dense[self._match(rotation, _FITTED)]
            u, _, vt = np.linalg.svd(nearest.T @ self.points[:_FITTED])
            fitted = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
            done = np.abs(fitted - rotation).max() < 1e-4
            rotation = fitted
            if done:
                break
        return rotation

    def _match(self, rotation: Floats, count: int = POINTS) -> npt.NDArray[np.int64]:
        moved = self.points[:count] @ rotation.T
        if self.colours is not None:
            moved = np.hstack([moved, self.colours[:count] * (TOLERANCE / LEVELS)])
        matched: npt.NDArray[np.int64] = self.features.query(moved)[1]
        return matched

    def matches(self, rotation: Floats) -> bool:
        """Whether a rotation is a symmetry."""
        moved = self.points @ rotation.T * self.diameter + self.centre
        place, _, _ = self.nearest(moved)
        if np.linalg.norm(place - moved, axis=1).max() > TOLERANCE * self.diameter:
            return False
        if self.colours is None:
            return True
        unlike = np.abs(self.smooth[self._match(rotation)] - self.colours).max(axis=1)
        return bool((unlike <= LEVELS).mean() >= SHARE)

    def is_cyclic(self, rotation: Floats) -> bool:
        """Whether the powers of a symmetry match too: small turns may be within the tolerance."""
        power = rotation
        for _ in range(_HIGHEST):
            power = power @ rotation
            if _contained(power[None], [], [])[0]:
                return True
            if not self.matches(power):
                return False
        return True

    def continuous(self, rotation: Floats) -> Floats | None:
        """The axis of a symmetry, if every rotation about it is one."""
        axis = _axis(rotation)
        far = self._closest(Rotation.from_rotvec(2 * axis).as_matrix())
        if Rotation.from_matrix(far).magnitude() < 1:
            return None
        for axis in (_axis(_tidied(far)), _axis(far)):
            turns = (Rotation.from_rotvec(axis * angle).as_matrix() for angle in _TURNS)
            if all(map(self.matches, turns)):
                return np.asarray(axis * np.sign(axis[np.abs(axis).argmax()]))
        return None


def _axis(rotation: Floats) -> Floats:
    vector = Rotation.from_matrix(rotation).as_rotvec()
    return np.asarray(vector / np.linalg.norm(vector))


def _grid() -> Floats:
    """Evenly spread rotations (Alexa, Super-Fibonacci spirals, CVPR 2022)."""
    s = np.arange(_GRID) + 0.5
    inner, outer = np.sqrt(s / _GRID), np.sqrt(1 - s / _GRID)
    a, b = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    quaternions = [inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)]
    return np.asarray(Rotation.from_quat(np.stack(quaternions, axis=1)).as_matrix())


def _tidied(rotation: Floats) -> Floats:
    """The rotation by a whole fraction of a turn, about a plain axis, that is within 2 degrees."""
    vector = Rotation.from_matrix(rotation).as_rotvec()
    angle = float(np.linalg.norm(vector))
    axis = vector / angle
    plain = np.array([p for p in itertools.product((-1, 0, 1), repeat=3) if any(p)], float)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    best = plain[(plain @ axis).argmax()]
    if best @ axis > math.cos(math.radians(2)):
        axis = best
    turns = np.array(
        [2 * math.pi * n / order for order in range(2, _HIGHEST + 1) for n in range(1, order)]
    )
    nearest = turns[np.abs(turns - angle).argmin()]
    angle = nearest if abs(nearest - angle) < math.radians(2) else angle
    return np.asarray(Rotation.from_rotvec(axis * angle).as_matrix())


def _contained(
    rotations: Floats, others: list[Floats], axes: list[Floats], within: float = _APART
) -> npt.NDArray[np.bool_]:
    """Of rotations (N, 3, 3): is it the identity or one of `others`, or that after a turn."""
    near = np.zeros(len(rotations), bool)
    for other in (np.eye(3), *others):
        rest = other.T @ rotations
        near |= Rotation.from_matrix(rest).magnitude() < within
        for axis in axes:
            near |= np.linalg.norm(rest @ axis - axis, axis=1) < within
    return near
