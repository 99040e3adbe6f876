"""Time of what turns a frame into a sample."""

from typing import Any

import numpy as np

from ffreid.bench.common import SEED
from ffreid.bench.reference_pose import reference_pyramid
from ffreid.engine.timing import milliseconds, row
from ffreid.pose.data.depth import back_project, fill_missing, normals_from_depth
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import build_pyramid
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame


def data_rows(quick: bool) -> list[dict[str, Any]]:
    """Time what turns a rendered frame into a sample: holes, normals, neighbours (one worker)."""
    frame, points = rendered_frame(quick)
    repeats = 1 if quick else 5
    depth, scale, intrinsics = frame.depth, frame.depth_scale, frame.intrinsics
    filled = fill_missing(depth, scale)
    millimetres = (filled / 10).astype(np.uint16)
    fx, fy = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    point_map = back_project(filled / np.float32(scale), intrinsics)
    valid = np.flatnonzero(filled.reshape(-1) > 1e-6)
    chosen = np.random.RandomState(SEED).permutation(valid)[:points]
    cloud = point_map.reshape(-1, 3)[chosen]
    size = f"{depth.shape[0]} x {depth.shape[1]}"
    holes = milliseconds(lambda: fill_missing(depth, scale), repeats)
    normals = milliseconds(lambda: normals_from_depth(millimetres, fx, fy), repeats)
    one = milliseconds(lambda: build_pyramid(cloud, point_map, workers=1), repeats)
    two = milliseconds(lambda: build_pyramid(cloud, point_map, workers=2), repeats)
    reference = milliseconds(lambda: reference_pyramid(cloud, point_map), repeats)
    return [
        row(f"hole filling, {size}", holes),
        row(f"normals, {size}", normals),
        row(f"neighbours, {points} points, 1 worker", one, reference),
        row("  2 workers (reference: 1 worker)", two, one, part=True),
    ]


def rendered_frame(quick: bool) -> tuple[Frame, int]:
    """Render a frame; also return how many of its points are sampled."""
    height, width, points = (96, 128, 1024) if quick else (480, 640, 12800)
    generator = np.random.default_rng(SEED)
    frame = toy_frame("bench", toy_objects(), height=height, width=width, generator=generator)
    return frame, points
