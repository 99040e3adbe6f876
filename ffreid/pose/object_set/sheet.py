"""A picture sheet of an object: four sides with keypoints, axes, box and axes of symmetry."""

from collections.abc import Sequence

import cv2
import numpy as np

from ffreid.pose import draw
from ffreid.pose.bop.rasterizer import render_depth
from ffreid.pose.draw import RgbImage
from ffreid.pose.object_set.surface import Floats, Nearest, Surface, sample

SIZE = 360
"""Width and height of a side, pixels."""
_DISTANCE, _FOCAL = 3.0, 2.3
"""Of the camera from the object in diameters, and its focal length in widths."""
_TURNS, _TILT = (30, 120, 210, 300), 25
"""Degrees about the object's z axis, and above its x-y plane, of the camera's places."""
_SAMPLES = 60_000
_GREY = np.array([170.0, 170, 175])
_BACKGROUND = 245
_KEYPOINT, _HIDDEN, _SYMMETRY, _BOX = (230, 30, 30), (150, 110, 110), (200, 0, 200), (110, 110, 110)


def draw_sheet(
    surface: Surface, diameter: float, keypoints: Floats, axes: Sequence[tuple[Floats, Floats]]
) -> RgbImage:
    """Draw an object (metres), with its `axes` of symmetry as points and directions.

    Keypoints are numbered red discs, those behind the surface rings.
    """
    nearest = Nearest(surface, sample(surface.vertices, surface.faces, _SAMPLES))
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    middle = (low + high) / 2
    camera = np.array([[_FOCAL * SIZE, 0, SIZE / 2], [0, _FOCAL * SIZE, SIZE / 2], [0, 0, 1.0]])
    sides = []
    for turn in _TURNS:
        pose = _view(np.radians(turn), np.radians(_TILT), middle, _DISTANCE * diameter)
        depth = render_depth(_placed(surface.vertices, pose), surface.faces, camera, (SIZE, SIZE))
        side = _shaded(depth, camera, pose, surface, nearest)
        draw.draw_box(side, camera, surface.vertices, pose, _BOX)
        for point, direction in axes:
            ends = point + np.outer([-0.65, 0.65], direction) * diameter
            draw.draw_lines(side, camera, pose, ends, [([0, 1], _SYMMETRY)], thickness=2)
        draw.draw_axes(side, camera, surface.vertices, pose)
        _draw_keypoints(side, camera, pose, keypoints, depth, diameter)
        sides.append(side)
    rows = [np.concatenate(sides[i : i + 2], axis=1) for i in (0, 2)]
    return np.concatenate(rows)


def _view(turn: float, tilt: float, middle: Floats, distance: float) -> Floats:
    """The pose (3, 4) camera_from_object that looks at `middle` from a side."""
    towards = -np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
    right = np.cross(towards, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(towards, right), towards])
    return np.column_stack([rotation, -rotation @ middle + [0, 0, distance]])


def _placed(points: Floats, pose: Floats) -> Floats:
    placed: Floats = points @ pose[:, :3].T + pose[:, 3]
    return placed


def _shaded(
    depth: Floats, camera: Floats, pose: Floats, surface: Surface, nearest: Nearest
) -> RgbImage:
    image = np.full((*depth.shape, 3), _BACKGROUND, np.uint8)
    y, x = np.nonzero(depth)
    z = depth[y, x]
    rays = np.linalg.solve(camera, np.stack([x + 0.5, y + 0.5, np.ones(len(x))])).T
    _, faces, weights = nearest((rays * z[:, None] - pose[:, 3]) @ pose[:, :3])
    colours = surface.colours_at(faces, weights)
    corners = surface.vertices[surface.faces[faces]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ pose[:, :3].T
    cosines = (normals * rays).sum(axis=1) / np.maximum(
        np.linalg.norm(normals, axis=1) * np.linalg.norm(rays, axis=1), 1e-12
    )
    light = 0.45 + 0.55 * np.abs(cosines)
    image[y, x] = (_GREY if colours is None else colours) * light[:, None]
    return image


def _draw_keypoints(
    image: RgbImage, camera: Floats, pose: Floats, points: Floats, depth: Floats, diameter: float
) -> None:
    pixels, _ = draw.project(camera, pose, points)
    distances = _placed(points, pose)[:, 2]
    for number, ((x, y), z) in enumerate(zip(pixels, distances, strict=True), 1):
        place = (round(float(x)), round(float(y)))
        column, row = np.clip(place, 0, SIZE - 1)
        seen = depth[row, column] == 0 or z < depth[row, column] + 0.03 * diameter
        colour = _KEYPOINT if seen else _HIDDEN
        cv2.circle(image, place, 5, colour, -1 if seen else 1, cv2.LINE_AA)
        where = (place[0] + 7, place[1] + 4)
        for shade, width in (((255, 255, 255), 3), (colour, 1)):
            cv2.putText(image, str(number), where, draw.FONT, 0.42, shade, width, cv2.LINE_AA)
