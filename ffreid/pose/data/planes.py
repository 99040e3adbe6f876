"""Normals of planes through eight neighbours, compiled by numba (the extra ``fast``)."""

from typing import Any

import numpy as np

from ffreid.pose.compiling import compiled


@compiled
def fit_planes(
    depth: Any, fx: Any, fy: Any, radius: int, max_distance: int, max_difference: int, sign: Any
) -> Any:
    """(H, W, 3) float32 normals; see `ffreid.pose.data.depth.normals_from_depth`.

    `fx`, `fy` and `sign` (-1 turns the normals into the surface) are float32.
    """
    rows, columns = depth.shape
    normals = np.zeros((rows, columns, 3), np.float32)
    width = columns - 2 * radius - 1
    sums = np.empty((5, width), np.int32)
    sum_xx, sum_xy, sum_yy, sum_xd, sum_yd = sums
    for row in range(radius, rows - radius - 1):
        sums[:] = 0
        centre = depth[row, radius : radius + width]
        for y in range(-1, 2):
            for x in range(-1, 2):
                left = radius * (1 + x)
                other = depth[row + y * radius, left : left + width]
                # A loop without branches and of 32 bits: 16 pixels in an instruction.
                xx, xy, yy = np.int32(x * x), np.int32(x * y), np.int32(y * y)
                for i in range(width):
                    delta = np.int32(np.int32(other[i]) - np.int32(centre[i]))
                    used = np.int32(-max_difference < delta < max_difference)
                    delta = np.int32(delta * used)
                    sum_xx[i] += xx * used
                    sum_xy[i] += xy * used
                    sum_yy[i] += yy * used
                    sum_xd[i] += np.int32(x) * delta
                    sum_yd[i] += np.int32(y) * delta
        for i in range(width):
            middle = np.int64(centre[i])
            a, b, c = np.int64(sum_xx[i]), np.int64(sum_xy[i]), np.int64(sum_yy[i])
            d, e = np.int64(sum_xd[i]), np.int64(sum_yd[i])
            nx = fx * np.float32((c * d - b * e) * radius**3)
            ny = fy * np.float32((a * e - b * d) * radius**3)
            nz = np.float32(-(a * c - b * b) * radius**4 * middle)
            length = np.sqrt(nx * nx + ny * ny + nz * nz)
            if length > 0 and middle < max_distance:
                inverse = sign / length
                normals[row, radius + i, 0] = nx * inverse
                normals[row, radius + i, 1] = ny * inverse
                normals[row, radius + i, 2] = nz * inverse
    return normals
