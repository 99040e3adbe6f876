"""Drawing poses: mesh vertices, boxes and axes projected over a colour image."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.engine.colours import class_colour
from ffreid.errors import printable
from ffreid.pose.toy.shapes import box_corners

RgbImage = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
Pose = tuple[int, Floats]
Colour = tuple[int, int, int]

MIN_WIDTH, DOTS, NEAR = 640, 400, 0.01
ROW, MARGIN, FONT, TEXT = 22, 8, cv2.FONT_HERSHEY_SIMPLEX, 0.45
WHITE: Colour = (255, 255, 255)
AXES: tuple[Colour, ...] = ((255, 60, 60), (60, 230, 60), (80, 120, 255))
# OpenCV's drawing coordinates are in sixteenths of a pixel.
SHIFT = 4
# Pairs of box corners that differ in one coordinate.
EDGES = [[a, a | bit] for bit in (1, 2, 4) for a in range(8) if not a & bit]


def draw_poses(
    rgb: RgbImage,
    intrinsics: npt.ArrayLike,
    *,
    points: Mapping[int, Floats],
    predicted: Sequence[Pose],
    true: Sequence[Pose] = (),
    names: Mapping[int, str] | None = None,
    captions: Sequence[str] = (),
    title: str = "predicted",
) -> RgbImage:
    """Draw predicted poses over an image, next to the ground truth if given.

    Every object has a colour: a sample of its vertices, their bounding box, and the object
    frame's axes (x red, y green, z blue). The ground truth is drawn as white boxes below the
    predictions. Small images are enlarged by an integer factor to at least 640 columns. Nothing
    is drawn behind the camera or outside the image.

    Args:
        rgb: (H, W, 3) uint8.
        intrinsics: (3, 3) camera matrix, pixels of `rgb`.
        points: (P, 3) metres, object frame, by class id; an object without points is not drawn.
        predicted: (class id, (3, 4) camera_from_object, metres) each.
        true: the same for the ground truth.
        names: of the class ids; their numbers by default.
        captions: texts at the predicted poses, none or one each.
        title: of the panel of predictions.

    Returns:
        (H', W', 3) uint8: a legend above one panel (predicted), or two (true, predicted).
    """
    factor = max(1, math.ceil(MIN_WIDTH / rgb.shape[1]))
    canvas = np.ascontiguousarray(rgb)
    if factor > 1:
        size = (rgb.shape[1] * factor, rgb.shape[0] * factor)
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    camera = np.array(intrinsics, np.float64)
    camera[:2] *= factor
    camera[:2, 2] += (factor - 1) / 2  # integer coordinates are pixel centres
    texts = [text for pose, text in zip(predicted, captions, strict=False) if pose[0] in points]
    true, predicted = ([p for p in poses if p[0] in points] for poses in (true, predicted))
    title = printable(title) + " (white: ground truth)" * bool(true)
    panels = {title: _panel(canvas, camera, points, predicted, below=true)}
    for (class_id, pose), text in zip(predicted, texts, strict=False):
        _draw_caption(panels[title], camera, points[class_id], pose, printable(text))
    if true:
        panels = {"true": _panel(canvas, camera, points, true), **panels}
    shown = sorted({class_id for class_id, _ in [*true, *predicted]})
    labels = {class_id: (names or {}).get(class_id, str(class_id)) for class_id in shown}
    labels = {class_id: printable(label) for class_id, label in labels.items()}
    side_by_side = np.concatenate(list(panels.values()), axis=1)
    return np.concatenate([legend(list(panels), labels, side_by_side.shape[1]), side_by_side])


def _panel(
    canvas: RgbImage,
    camera: Floats,
    points: Mapping[int, Floats],
    poses: Sequence[Pose],
    *,
    below: Sequence[Pose] = (),
) -> RgbImage:
    panel = canvas.copy()
    for class_id, pose in poses:
        _draw_points(panel, camera, points[class_id], pose, class_colour(class_id))
    panel = cv2.addWeighted(panel, 0.6, canvas, 0.4, 0).astype(np.uint8)
    for class_id, pose in below:
        draw_box(panel, camera, points[class_id], pose, WHITE)
    for class_id, pose in poses:
        draw_box(panel, camera, points[class_id], pose, class_colour(class_id))
    for class_id, pose in poses:
        draw_axes(panel, camera, points[class_id], pose)
    return panel


def _draw_points(
    panel: RgbImage, camera: Floats, points: Floats, pose: Floats, colour: Colour
) -> None:
    height, width = panel.shape[:2]
    sample = points[:: math.ceil(len(points) / DOTS)]
    pixels, in_front = project(camera, pose, sample)
    inside = in_front & (pixels >= 0).all(1) & (pixels <= (width - 1, height - 1)).all(1)
    radius = round(width / 640 * 1.2 * 2**SHIFT)
    for x, y in np.rint(pixels[inside] * 2**SHIFT).astype(int).tolist():
        cv2.circle(panel, (x, y), radius, colour, -1, cv2.LINE_AA, SHIFT)


def draw_box(panel: RgbImage, camera: Floats, points: Floats, pose: Floats, colour: Colour) -> None:
    """Draw the bounding box of points (P, 3), object frame, at a pose."""
    low, high = points.min(axis=0), points.max(axis=0)
    corners = box_corners((high - low) / 2) + (high + low) / 2
    draw_lines(panel, camera, pose, corners, [(edge, colour) for edge in EDGES], thickness=1)


def draw_axes(panel: RgbImage, camera: Floats, points: Floats, pose: Floats) -> None:
    """Draw the object frame's axes at a pose, sized by points (P, 3)."""
    ends = np.eye(4, 3, -1) * (0.4 * float(np.ptp(points, axis=0).max()))
    axes = [([0, axis], colour) for axis, colour in enumerate(AXES, 1)]
    draw_lines(panel, camera, pose, ends, axes, thickness=2)


def _draw_caption(panel: RgbImage, camera: Floats, points: Floats, pose: Floats, text: str) -> None:
    """Write above the object, inside the image."""
    pixels, in_front = project(camera, pose, points)
    if not in_front.any():
        return
    (width, height), _ = cv2.getTextSize(text, FONT, TEXT, 1)
    left, top = pixels[in_front].min(axis=0).clip(-1e6, 1e6)
    x = round(min(max(left, 0), panel.shape[1] - width))
    y = round(min(max(top - 6, height + 2), panel.shape[0] - 4))
    for colour, thickness in (((0, 0, 0), 3), (WHITE, 1)):
        cv2.putText(panel, text, (x, y), FONT, TEXT, colour, thickness, cv2.LINE_AA)


def draw_lines(
    panel: RgbImage,
    camera: Floats,
    pose: Floats,
    points: Floats,
    lines: Sequence[tuple[list[int], Colour]],
    *,
    thickness: int,
) -> None:
    """Draw lines between two of the `points` in front of the camera, as far as the image goes."""
    height, width = panel.shape[:2]
    frame = (0, 0, width << SHIFT, height << SHIFT)
    pixels, in_front = project(camera, pose, points)
    for line, colour in lines:
        ends = np.rint(pixels[line] * 2**SHIFT)
        if in_front[line].all() and np.abs(ends).max() <= 2**30:
            visible, first, second = cv2.clipLine(frame, *map(tuple, ends.astype(int).tolist()))
            if visible:
                cv2.line(panel, first, second, colour, thickness, cv2.LINE_AA, SHIFT)


def project(camera: Floats, pose: Floats, points: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(P, 2) pixels, 0 behind the camera, and (P,) whether a point is in front of it."""
    points_camera = points @ pose[:, :3].T + pose[:, 3]
    in_front = np.isfinite(points_camera).all(axis=1) & (points_camera[:, 2] > NEAR)
    pixels = np.zeros((len(points), 2))
    projected = points_camera[in_front] @ camera.T
    pixels[in_front] = projected[:, :2] / projected[:, 2:]
    return pixels, in_front


def legend(titles: Sequence[str], labels: Mapping[int, str], width: int) -> RgbImage:
    """Titles above panels of equal width, and below them each class with its colour."""
    places, x, row = [], MARGIN, 1
    for class_id, label in labels.items():
        (text_width, _), _ = cv2.getTextSize(label, FONT, TEXT, 1)
        needed = 16 + text_width + 2 * MARGIN
        if x > MARGIN and x + needed > width:
            x, row = MARGIN, row + 1
        places.append((class_id, label, x, row))
        x += needed
    image = np.full((ROW * (row + 1 if places else 1), width, 3), 32, np.uint8)
    for index, title in enumerate(titles):
        left = index * width // len(titles) + MARGIN
        cv2.putText(image, title, (left, 15), FONT, TEXT, WHITE, 1, cv2.LINE_AA)
    for class_id, label, x, row in places:
        top = row * ROW
        cv2.rectangle(image, (x, top + 5), (x + 11, top + 16), class_colour(class_id), -1)
        cv2.putText(image, label, (x + 16, top + 15), FONT, TEXT, WHITE, 1, cv2.LINE_AA)
    return image
