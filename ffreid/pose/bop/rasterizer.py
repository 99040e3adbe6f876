"""Depth images of meshes, without a GPU."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CANDIDATES = 1 << 21
"""Pixels in triangles' bounding boxes that are tested at a time."""


def render_depth(
    vertices: Floats, faces: npt.NDArray[np.integer], camera: Floats, size: tuple[int, int]
) -> Floats:
    """Render a mesh to a depth image (H, W), 0 where there is none.

    Each pixel is sampled at its middle, half a pixel right of and below its integer coordinates,
    as OpenGL does with the camera matrix of a BOP dataset. Faces that reach behind the camera are
    left out.

    Args:
        vertices: (P, 3) in the camera's frame.
        faces: (F, 3) indices of vertices, of any orientation.
        camera: (3, 3) camera matrix.
        size: (H, W).
    """
    height, width = size
    depth = np.full(height * width, np.inf)
    triangles = vertices[faces]  # (F, 3, 3)
    triangles = triangles[(triangles[:, :, 2] > 1e-6).all(axis=1)]
    projected = triangles @ camera.T
    places = projected[:, :, :2] / projected[:, :, 2:] - 0.5
    limits = np.array([width, height])
    low = np.ceil(places.min(axis=1)).clip(0, limits).astype(np.int64)
    high = (np.floor(places.max(axis=1)).clip(-1, limits - 1) + 1).astype(np.int64)
    spans = (high - low).clip(0)
    counts = spans.prod(axis=1)
    for part in _parts(counts):
        chosen = part[counts[part] > 0]
        face = np.repeat(chosen, counts[chosen])
        first = np.cumsum(counts[chosen]) - counts[chosen]
        place = np.arange(len(face)) - np.repeat(first, counts[chosen])
        x = low[face, 0] + place % spans[face, 0]
        y = low[face, 1] + place // spans[face, 0]
        pixel = np.stack([x, y], axis=1)
        a, b, c = (places[face, corner] - pixel for corner in range(3))
        shares = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=1)
        area = shares.sum(axis=1)
        inside = ((shares >= 0).all(axis=1) | (shares <= 0).all(axis=1)) & (area != 0)
        face, pixel, shares = face[inside], pixel[inside], shares[inside] / area[inside, None]
        # 1 / z is linear in the image.
        z = 1 / (shares / triangles[face, :, 2]).sum(axis=1)
        np.minimum.at(depth, pixel[:, 1] * width + pixel[:, 0], z)
    depth[np.isinf(depth)] = 0
    return depth.reshape(size)


def _cross(a: Floats, b: Floats) -> Floats:
    product: Floats = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product


def _parts(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Split faces into groups with about as many candidates."""
    group = np.cumsum(counts) // _CANDIDATES
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(group)) + 1)


def to_distance(depth: Floats, camera: Floats) -> Floats:
    """Distances from the camera's centre of a depth image (H, W)."""
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
    rays = np.stack([(x - camera[0, 2]) / camera[0, 0], (y - camera[1, 2]) / camera[1, 1]])
    distances: Floats = depth * np.sqrt(1 + (rays**2).sum(axis=0))
    return distances
