"""Depth maps: hole filling, normals, back-projection, downscaling."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.pose.data.frame import Frame

try:
    from ffreid.pose.data.planes import fit_planes
except ModuleNotFoundError:  # the extra "fast"
    USE_COMPILED = False
else:
    USE_COMPILED = True

Depth = npt.NDArray[np.float32]
Integers = npt.NDArray[np.signedinteger[Any]]
Mask = npt.NDArray[np.bool_]
Blur = Literal["bilateral", "gaussian"]

# Metres; anything nearer counts as not measured.
EMPTY = 0.01
FULL_5 = np.ones((5, 5), np.uint8)
FULL_9 = np.ones((9, 9), np.uint8)


def fill_missing(
    depth: npt.NDArray[Any],
    depth_scale: float,
    *,
    max_depth: float = 3.0,
    blur: Blur = "bilateral",
    extrapolate: bool = False,
) -> Depth:
    """Fill the holes of a depth map by dilating near surfaces over them.

    Classical depth completion of Ku et al., "In Defense of Classical Image Processing" (CRV 2018),
    in its multi-scale form: depth is inverted so that a dilation lets the nearer surface win.

    Args:
        depth: (H, W) in the sensor's units, 0 where nothing was measured.
        depth_scale: units per metre.
        max_depth: metres; farther depth becomes 0 or negative, which counts as empty.
        blur: the last smoothing.
        extrapolate: also fill above the topmost measurement of each column.

    Returns:
        (H, W) float32 in the sensor's units.
    """
    *_, (_, filled) = fill_steps(depth, depth_scale, max_depth, blur, extrapolate)
    return filled * np.float32(depth_scale)


def fill_steps(
    depth: npt.NDArray[Any], depth_scale: float, max_depth: float, blur: Blur, extrapolate: bool
) -> Iterator[tuple[str, Depth]]:
    """Yield every stage by name (metres; inverted from the second to the last but one)."""
    metres = (depth / np.float32(depth_scale)).astype(np.float32, copy=False)
    yield "in", metres
    inverted = _inverted(metres, max_depth)
    yield "inverted", inverted
    # Far, middle and near surfaces are dilated by small, larger and largest crosses; near wins.
    far, near = metres > 2.0, (metres > EMPTY) & (metres <= 1.0)
    middle = (metres > 1.0) & (metres <= 2.0)
    dilated = inverted
    for band, size in ((far, 3), (middle, 5), (near, 7)):
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (size, size))
        grown = cv2.dilate(inverted * band, cross)
        dilated = _where(grown > EMPTY, grown, dilated)
    yield "dilated", dilated
    closed = cv2.morphologyEx(dilated, cv2.MORPH_CLOSE, FULL_5).astype(np.float32, copy=False)
    yield "closed", closed
    blurred = _where(closed > EMPTY, cv2.medianBlur(closed, 5), closed)
    yield "blurred", blurred
    empty = ~(blurred > EMPTY) & _below_top(blurred)
    combined = _where(empty, cv2.dilate(blurred, FULL_9), blurred)
    yield "combined", combined
    allowed = _below_top(combined)
    filled = combined
    if extrapolate:
        top = np.argmax(combined > EMPTY, axis=0)
        filled = _where(~allowed, combined[top, np.arange(combined.shape[1])][None], combined)
        allowed = np.ones_like(allowed)
    yield "extended", filled
    for _ in range(6):
        empty = (filled < EMPTY) & allowed
        if not empty.any():
            break
        filled = _where(empty, cv2.dilate(filled, FULL_5), filled)
    valid = (filled > EMPTY) & allowed
    filled = _where(valid, cv2.medianBlur(filled, 5), filled)
    if blur == "gaussian":
        valid = (filled > EMPTY) & allowed  # the median may have emptied a pixel
        filled = _where(valid, cv2.GaussianBlur(filled, (5, 5), 0), filled)
    else:
        filled = _where(valid, cv2.bilateralFilter(filled, 5, 0.5, 2.0), filled)
    yield "smoothed", filled
    yield "out", _inverted(filled, max_depth)


def _inverted(depth: Depth, max_depth: float) -> Depth:
    return np.subtract(np.float32(max_depth), depth, out=depth.copy(), where=depth > EMPTY)


def _below_top(depth: Depth) -> Mask:
    """Mask the pixels from each column's first measured row downwards (an empty column: all)."""
    first = np.argmax(depth > EMPTY, axis=0)
    below: Mask = np.arange(depth.shape[0])[:, None] >= first[None]
    return below


def _where(mask: Mask, yes: npt.NDArray[Any], no: Depth) -> Depth:
    result = no.copy()
    np.copyto(result, yes, where=mask)
    return result


def normals_from_depth(
    depth_mm: npt.NDArray[np.uint16],
    fx: float,
    fy: float,
    *,
    radius: int = 5,
    max_distance: int = 2000,
    max_difference: int = 20,
    into_surface: bool = False,
) -> npt.NDArray[np.float32]:
    """Estimate surface normals by fitting a plane to eight neighbours (Hinterstoisser's LINEMOD).

    Bit for bit the result of the original's compiled extension: integer sums, then float32.

    Args:
        depth_mm: (H, W) whole millimetres, 0 where nothing was measured.
        fx: focal length in pixels, as is `fy`.
        radius: pixels between a pixel and its neighbours.
        max_distance: millimetres; farther pixels get no normal.
        max_difference: millimetres; neighbours that differ by this or more are ignored.
        into_surface: turn the normals away from the camera.

    Returns:
        (H, W, 3) float32, 0 where there is none. Every component is median filtered (3 x 3) at
        the end, so the length is not exactly one.
    """
    height, width = depth_mm.shape
    normals = np.zeros((height, width, 3), np.float32)
    if height <= 2 * radius + 1 or width <= 2 * radius + 1:
        return normals
    if USE_COMPILED:
        sign = np.float32(-1 if into_surface else 1)
        options = (radius, max_distance, max_difference, sign)
        normals = fit_planes(depth_mm, np.float32(fx), np.float32(fy), *options)
        return np.asarray(cv2.medianBlur(normals, 3))
    inner = (slice(radius, height - radius - 1), slice(radius, width - radius - 1))
    # Farther neighbours differ too much from every pixel used; small integers are faster.
    farthest = max_distance + max_difference
    clipped: Integers = np.minimum(depth_mm.astype(np.int32), farthest)
    if farthest < 2**15:
        clipped = clipped.astype(np.int16)
    det, slope_x, slope_y = _plane_sums(clipped, clipped[inner], radius, max_difference)
    centre = clipped[inner].astype(det.dtype)
    near = centre < max_distance
    x = np.float32(fx) * slope_x.astype(np.float32)
    y = np.float32(fy) * slope_y.astype(np.float32)
    z = (-det * centre).astype(np.float32)
    length = np.sqrt(x * x + y * y + z * z)
    good = near & (length > 0)
    inverse = np.float32(1) / np.where(good, length, np.float32(1))
    inverse = np.where(good, -inverse if into_surface else inverse, np.float32(0))
    for axis, component in enumerate((x, y, z)):
        plane = np.zeros((height, width), np.float32)
        plane[inner] = component * inverse
        normals[..., axis] = cv2.medianBlur(plane, 3)
    return normals


def _plane_sums(
    depth: Integers, centre: Integers, radius: int, max_difference: int
) -> tuple[Integers, Integers, Integers]:
    """Determinant and both slopes of the least-squares plane through the neighbours in range."""
    rows, columns = centre.shape
    # Sums of xx, xy, yy, x delta, y delta, with x and y counted in steps of the radius.
    sums: Integers = np.zeros((5, rows, columns), depth.dtype)
    xx, xy, yy, xd, yd = sums
    add_signed = {1: np.add, -1: np.subtract}
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            if x == y == 0:
                continue
            top, left = radius * (1 + y), radius * (1 + x)
            delta = depth[top : top + rows, left : left + columns] - centre
            used = (np.abs(delta) < max_difference).astype(depth.dtype)
            delta *= used
            if x:
                xx += used
                add_signed[x](xd, delta, out=xd)
            if y:
                yy += used
                add_signed[y](yd, delta, out=yd)
            if x and y:
                add_signed[x * y](xy, used, out=xy)
    # 36 r^4 bounds the determinant, which the caller multiplies by a depth.
    narrow = 36 * radius**4 * int(centre.max(initial=0)) < 2**31
    xx, xy, yy, xd, yd = sums.astype(np.int32) if narrow else sums.astype(np.int64)
    det = (xx * yy - xy * xy) * radius**4
    return det, (yy * xd - xy * yd) * radius**3, (xx * yd - xy * xd) * radius**3


def back_project(depth: Depth, intrinsics: npt.NDArray[np.floating[Any]]) -> Depth:
    """Back-project a depth map (H, W) in metres to points (H, W, 3), metres, camera frame.

    A pixel at or below 1e-8 becomes the point (0, 0, 0). Computed in float64, returned in float32.
    """
    height, width = depth.shape
    matrix = intrinsics.astype(np.float64)
    z = np.where(np.isfinite(depth) & (depth > 1e-8), depth, 0).astype(np.float64)
    points = np.empty((height, width, 3), np.float32)
    points[..., 0] = (np.arange(width)[None] - matrix[0, 2]) * z / matrix[0, 0]
    points[..., 1] = (np.arange(height)[:, None] - matrix[1, 2]) * z / matrix[1, 1]
    points[..., 2] = z
    return points


def downscale_frame(frame: Frame, step: int) -> Frame:
    """Divide height and width by `step`: depth and labels are subsampled, colours averaged.

    Rows and columns that do not fill a step are cropped at the bottom and the right.
    """
    if step == 1:
        return frame
    height, width = (size // step for size in frame.depth.shape)
    if not height or not width:
        size = " x ".join(map(str, frame.depth.shape))
        raise UserError(
            f"{frame.name}: {size} pixels are fewer than DATA.SHRINK {step}", "use DATA.SHRINK 1"
        )
    cut = (slice(0, height * step), slice(0, width * step))
    picked = (slice(0, height * step, step), slice(0, width * step, step))
    intrinsics = frame.intrinsics.astype(np.float64).copy()
    intrinsics[:2] /= step
    colours = cv2.resize(frame.rgb[cut], (width, height), interpolation=cv2.INTER_AREA)
    return replace(
        frame,
        rgb=colours.astype(np.uint8, copy=False),
        depth=np.ascontiguousarray(frame.depth[picked]),
        labels=np.ascontiguousarray(frame.labels[picked]),
        intrinsics=intrinsics,
        instances=None if frame.instances is None else frame.instances[picked],
    )
