"""Time of what turns a frame into a sample."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ffreid.bench.common import SEED, compare
from ffreid.bench.reference_pose import reference_pyramid
from ffreid.engine import cache
from ffreid.engine.cache import Arrays
from ffreid.engine.timing import in_turn, milliseconds, row
from ffreid.pose.data import depth as depth_maps
from ffreid.pose.data import pyramid
from ffreid.pose.data.dataset import EvalSet
from ffreid.pose.data.depth import back_project, fill_missing, normals_from_depth
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import Points, build_pyramid
from ffreid.pose.data.sample import surface
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.toy.dataset import toy_object_models, write_frame
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

    def normals(compiled: bool) -> object:
        with _compiled(compiled):
            return normals_from_depth(millimetres, fx, fy)

    normals(pyramid.USE_CELLS)  # compiles
    return [
        preparation_row(frame, points, repeats),
        row(f"  hole filling, {size}", holes, part=True),
        compare(
            f"  normals, {size}",
            partial(normals, pyramid.USE_CELLS),
            partial(normals, False),
            repeats,
            part=True,
        ),
        *neighbour_rows(cloud, point_map, repeats),
        cache_row(frame, repeats),
    ]


def neighbour_rows(cloud: Points, point_map: Points, repeats: int) -> list[dict[str, Any]]:
    """Time the searches in cells, in trees, and with a tree for each search."""

    def build(use_cells: bool) -> object:
        with _compiled(use_cells):
            return build_pyramid(cloud, point_map)

    forms = {"cells": True, "trees": False} if pyramid.USE_CELLS else {"trees": False}
    calls: dict[str, Callable[[], object]] = {n: partial(build, use) for n, use in forms.items()}
    calls["plain"] = partial(reference_pyramid, cloud, point_map)
    in_turn(calls, 1)  # compiles
    times = in_turn(calls, repeats)
    stage = f"  neighbours, {len(cloud)} points"
    return [row(f"{stage}, {name}", times[name], times["plain"], part=True) for name in forms]


def cache_row(frame: Frame, repeats: int) -> dict[str, Any]:
    """Time filled depth and normals from the cache, checked; plain: computed."""

    def compute(name: str = "") -> Arrays:
        return surface(frame, fill_holes=True)

    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        plan = cache.Plan("bench", Path(folder), {}, lambda: {frame.name: ()}, compute)
        cache.fill(plan, "", 0)
        found = cache.find(plan, "")
        assert found is not None
        size = " x ".join(map(str, frame.depth.shape))
        stage = f"  holes and normals, {size}, from the cache"
        return compare(stage, lambda: found.get(frame.name, ()), compute, repeats, part=True)


def preparation_row(frame: Frame, points: int, repeats: int) -> dict[str, Any]:
    """Time a frame in YCB-Video's layout from its files to the sample; plain: with trees."""
    with TemporaryDirectory() as folder:
        write_frame(Path(folder), frame)
        (Path(folder) / "list.txt").write_text(frame.name)
        objects = toy_object_models("toy-pose")
        reader = YcbReader(Path(folder), objects, test_list=Path(folder) / "list.txt")
        data = EvalSet(reader, objects, names=[frame.name], points=points, seed=SEED)

        def read(use_cells: bool) -> object:
            with _compiled(use_cells):
                return data[0]

        size = f"{frame.depth.shape[0]} x {frame.depth.shape[1]}"
        now, plain = partial(read, pyramid.USE_CELLS), partial(read, False)
        now()  # compiles
        return compare(f"files to sample, {size}", now, plain, repeats)


@contextmanager
def _compiled(use: bool) -> Iterator[None]:
    before = pyramid.USE_CELLS
    pyramid.USE_CELLS = depth_maps.USE_COMPILED = use
    try:
        yield
    finally:
        pyramid.USE_CELLS = depth_maps.USE_COMPILED = before


def rendered_frame(quick: bool) -> tuple[Frame, int]:
    """Render a frame; also return how many of its points are sampled."""
    height, width, points = (96, 128, 1024) if quick else (480, 640, 12800)
    generator = np.random.default_rng(SEED)
    frame = toy_frame(
        "data/0000/000001", toy_objects(), height=height, width=width, generator=generator
    )
    return frame, points
