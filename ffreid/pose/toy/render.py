"""Exact pictures of simple scenes by ray casting: colour, depth, labels, and a depth sensor.

Frames: the camera looks along +z, x to the right, y down; the ray of pixel (row v, column u) is
((u - cx) / fx, (v - cy) / fy, 1), so that a ray's parameter is the depth itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.pose.toy.shapes import Floats, Shape, box_corners

Texture = Callable[[Floats], Floats]
# Metres: how far above its surface a shadow ray starts; the depth below which nothing projects.
LIFT, NEAR = 1e-3, 1e-2


def render(
    solids: Sequence["Solid"], intrinsics: npt.ArrayLike, *, height: int, width: int, light: Floats
) -> "Rendering":
    """Cast one ray a pixel at `solids`; the nearest hit gives depth, label and colour.

    Each solid is only tried within the rectangle that its bounding box projects to.

    Args:
        solids: what the scene holds, in front of the camera.
        intrinsics: (3, 3) camera matrix, pixels.
        height: rows of the picture.
        width: columns of the picture.
        light: (3,) unit vector towards the distant light, camera frame.
    """
    camera = np.asarray(intrinsics, np.float64)
    rays = pixel_rays(camera, height, width)
    depth = np.full((height, width), np.inf)
    owner = np.full((height, width), -1)
    for index, solid in enumerate(solids):
        window = _window(solid, camera, height, width)
        directions = rays[window].reshape(-1, 3)
        if not len(directions):
            continue
        origin = -solid.rotation.T @ solid.translation
        distance = solid.shape.enter(origin, directions @ solid.rotation).reshape(
            depth[window].shape
        )
        nearer = distance < depth[window]
        depth[window][nearer] = distance[nearer]
        owner[window][nearer] = index
    return _shaded(solids, rays, depth, owner, light)


def pixel_rays(intrinsics: Floats, height: int, width: int) -> Floats:
    """(H, W, 3) direction of each pixel's ray, of depth 1."""
    columns = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    rows = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.ones((height, width, 3))
    rays[..., 0], rays[..., 1] = columns, rows[:, None]
    return rays


def sense_depth(
    depth: Floats, facing: Floats, *, scale: float, generator: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Measure exact depth as a depth camera would: with noise, and holes where it fails.

    Noise grows with the square of the depth (about 1 mm at 0.8 m). Half the pixels beside a jump
    of more than 3 cm, most surfaces seen at a grazing angle and 0.2 % of all pixels are holes.

    Args:
        depth: (H, W) metres, 0 where nothing is.
        facing: (H, W) cosine between the surface normal and the way back to the camera.
        scale: units a metre of the result.
        generator: where noise and holes come from.

    Returns:
        (H, W) uint16 in units of 1 / `scale` metres, 0 where nothing was measured.
    """
    noisy = depth + generator.normal(size=depth.shape) * (0.0004 + 0.001 * depth**2)
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, kernel) - cv2.erode(depth, kernel) > 0.03
    lost = generator.random(depth.shape)
    # The gap between neighbours on a far, slanted surface is no edge: it hardly faces the camera.
    holes = (jump & (facing > 0.25) & (lost < 0.5)) | (lost > 0.5 + 2.5 * facing) | (lost < 0.002)
    holes |= depth <= 0
    units = np.where(holes, 0, np.rint(noisy * scale))
    return np.clip(units, 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _window(solid: "Solid", camera: Floats, height: int, width: int) -> tuple[slice, slice]:
    corners = box_corners(solid.shape.half_extents) @ solid.rotation.T + solid.translation
    if corners[:, 2].min() < NEAR:
        return slice(0, height), slice(0, width)
    projected = corners @ camera.T
    pixels = projected[:, :2] / projected[:, 2:]
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, (width, height))
    return slice(low[1], max(high[1], low[1])), slice(low[0], max(high[0], low[0]))


def _shaded(
    solids: Sequence["Solid"],
    rays: Floats,
    depth: Floats,
    owner: npt.NDArray[np.int64],
    light: Floats,
) -> "Rendering":
    height, width = depth.shape
    rgb = np.zeros((height, width, 3))
    normals = np.zeros((height, width, 3))
    labels = np.zeros((height, width), np.int32)
    points = rays * np.where(np.isfinite(depth), depth, 0)[..., None]
    for index, solid in enumerate(solids):
        mine = owner == index
        if not mine.any():
            continue
        surface = (points[mine] - solid.translation) @ solid.rotation
        rgb[mine] = solid.texture(surface)
        normals[mine] = solid.shape.normals(surface) @ solid.rotation.T
        labels[mine] = solid.label
    seen = owner >= 0
    lit = _lit(solids, points, normals, seen, light)
    # Half the light comes from everywhere, more of it from above (-y) than from below.
    everywhere = 0.5 - 0.12 * normals[..., 1]
    rgb *= (everywhere + 0.55 * lit * np.maximum(normals @ light, 0))[..., None]
    facing = -(normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    return Rendering(
        rgb=np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8),
        depth=np.where(seen, depth, 0.0),
        labels=labels,
        facing=np.where(seen, facing, 0.0),
    )


def _lit(
    solids: Sequence["Solid"],
    points: Floats,
    normals: Floats,
    seen: npt.NDArray[np.bool_],
    light: Floats,
) -> Floats:
    """(H, W) share of the distant light that arrives, 0 … 1; shadows have soft edges."""
    shadow = np.zeros(seen.shape)
    starts = (points + LIFT * normals)[seen]
    blocked = np.zeros(len(starts), bool)
    for solid in solids:
        towards = solid.translation - starts
        along = towards @ light
        radius = float(np.linalg.norm(solid.shape.half_extents))
        near = ((towards**2).sum(-1) - along**2 < radius**2) & (along > -radius) & ~blocked
        if near.any():
            origins = -towards[near] @ solid.rotation
            directions = np.broadcast_to(light @ solid.rotation, origins.shape)
            blocked[near] = np.isfinite(solid.shape.enter(origins, directions))
    shadow[seen] = blocked
    soft: Floats = cv2.GaussianBlur(shadow, (0, 0), max(seen.shape[1] / 160, 0.5)).astype(float)
    return 1 - 0.85 * soft


@dataclass(frozen=True)
class Solid:
    """A shape with a texture, at its place.

    Attributes:
        shape: what rays meet.
        texture: (N, 3) surface points in the shape's frame, metres -> (N, 3) RGB, 0 … 1.
        camera_from_solid: (3, 4) pose, metres.
        label: class id, 0 for background.
    """

    shape: Shape
    texture: Texture
    camera_from_solid: Floats
    label: int = 0

    @property
    def rotation(self) -> Floats:
        """(3, 3) rotation of the pose."""
        return self.camera_from_solid[:, :3]

    @property
    def translation(self) -> Floats:
        """(3,) translation of the pose, metres."""
        return self.camera_from_solid[:, 3]


@dataclass(frozen=True)
class Rendering:
    """An exact picture.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float64 metres, 0 where nothing is.
        labels: (H, W) int32 class ids, 0 is background.
        facing: (H, W) float64 cosine between surface normal and the way back to the camera.
    """

    rgb: npt.NDArray[np.uint8]
    depth: Floats
    labels: npt.NDArray[np.int32]
    facing: Floats
