"""Ray casting of simple scenes: colour, depth, labels, and a simulated depth sensor.

The camera looks along +z, x to the right, y down; the ray of pixel (row v, column u) is
((u - cx) / fx, (v - cy) / fy, 1), so that a ray's parameter is the depth itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.pose.toy.shapes import Floats, Shape, box_corners

Texture = Callable[[Floats], Floats]
"""From (N, 3) surface points in the shape's frame, metres, to (N, 3) RGB, 0 … 1."""
# Metres: offset of shadow rays from the surface; depth below which nothing is projected.
SHADOW_OFFSET, NEAR = 1e-3, 1e-2


@dataclass(frozen=True)
class Solid:
    """A shape with a texture, a (3, 4) pose in metres and a class id (0 for background)."""

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
    """A rendered image: (H, W, …) arrays.

    `depth` is in metres, 0 where nothing is; `facing` is the cosine between the surface normal and
    the direction to the camera.
    """

    rgb: npt.NDArray[np.uint8]
    depth: Floats
    labels: npt.NDArray[np.int32]
    facing: Floats


def render(
    solids: Sequence[Solid], intrinsics: npt.ArrayLike, *, height: int, width: int, light: Floats
) -> Rendering:
    """Cast one ray per pixel at `solids`; the nearest hit gives depth, label and colour.

    `light` is a (3,) unit vector towards the distant light, camera frame.
    """
    camera = np.asarray(intrinsics, np.float64)
    rays = pixel_rays(camera, height, width)
    depth = np.full((height, width), np.inf)
    nearest = np.full((height, width), -1)
    for index, solid in enumerate(solids):
        window = _window(solid, camera, height, width)
        directions = rays[window].reshape(-1, 3)
        if not len(directions):
            continue
        origin = -solid.rotation.T @ solid.translation
        distance = solid.shape.intersect(origin, directions @ solid.rotation)
        distance = distance.reshape(depth[window].shape)
        is_nearer = distance < depth[window]
        depth[window][is_nearer] = distance[is_nearer]
        nearest[window][is_nearer] = index
    rgb, normals = np.zeros((height, width, 3)), np.zeros((height, width, 3))
    labels = np.zeros((height, width), np.int32)
    hit = nearest >= 0
    points = rays * np.where(hit, depth, 0)[..., None]
    for index, solid in enumerate(solids):
        mask = nearest == index
        if mask.any():
            surface = (points[mask] - solid.translation) @ solid.rotation
            rgb[mask] = solid.texture(surface)
            normals[mask] = solid.shape.normals(surface) @ solid.rotation.T
            labels[mask] = solid.label
    # Half the light is ambient, more of it from above (-y) than from below.
    ambient = 0.5 - 0.12 * normals[..., 1]
    direct = _direct_light(solids, points, normals, hit, light)
    rgb *= (ambient + 0.55 * direct * np.maximum(normals @ light, 0))[..., None]
    facing = -(normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    return Rendering(
        rgb=np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8),
        depth=np.where(hit, depth, 0.0),
        labels=labels,
        facing=np.where(hit, facing, 0.0),
    )


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
    """Simulate a depth camera: noise, and holes.

    Noise grows with the square of the depth (about 1 mm at 0.8 m). Half the pixels next to a jump
    of more than 3 cm, most surfaces at a grazing angle and 0.2 % of all pixels are holes.

    `depth` and `facing` are those of `Rendering`; the result is (H, W) in units of 1 / `scale`
    metres, 0 for holes.
    """
    noisy = depth + generator.normal(size=depth.shape) * (0.0004 + 0.001 * depth**2)
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, kernel) - cv2.erode(depth, kernel) > 0.03
    lost = generator.random(depth.shape)
    # A gap between neighbours on a far, slanted surface is not an edge: it hardly faces the camera.
    holes = (jump & (facing > 0.25) & (lost < 0.5)) | (lost > 0.5 + 2.5 * facing) | (lost < 0.002)
    holes |= depth <= 0
    units = np.where(holes, 0, np.rint(noisy * scale))
    return np.clip(units, 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _window(solid: Solid, camera: Floats, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the projected bounding box."""
    corners = box_corners(solid.shape.half_extents) @ solid.rotation.T + solid.translation
    if corners[:, 2].min() < NEAR:
        return slice(0, height), slice(0, width)
    projected = corners @ camera.T
    pixels = projected[:, :2] / projected[:, 2:]
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, (width, height))
    return slice(low[1], max(high[1], low[1])), slice(low[0], max(high[0], low[0]))


def _direct_light(
    solids: Sequence[Solid],
    points: Floats,
    normals: Floats,
    hit: npt.NDArray[np.bool_],
    light: Floats,
) -> Floats:
    """(H, W) fraction of the distant light that arrives, 0 … 1; shadows have soft edges."""
    shadow = np.zeros(hit.shape)
    starts = (points + SHADOW_OFFSET * normals)[hit]
    blocked = np.zeros(len(starts), bool)
    for solid in solids:
        towards = solid.translation - starts
        along = towards @ light
        radius = float(np.linalg.norm(solid.shape.half_extents))
        near = ((towards**2).sum(-1) - along**2 < radius**2) & (along > -radius) & ~blocked
        if near.any():
            origins = -towards[near] @ solid.rotation
            directions = np.broadcast_to(light @ solid.rotation, origins.shape)
            blocked[near] = np.isfinite(solid.shape.intersect(origins, directions))
    shadow[hit] = blocked
    soft: Floats = cv2.GaussianBlur(shadow, (0, 0), max(hit.shape[1] / 160, 0.5)).astype(float)
    return 1 - 0.85 * soft
