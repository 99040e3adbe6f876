"""Time of rendered frames, from scene to files: OpenGL against Embree."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from ffreid import report
from ffreid.bench.common import SEED
from ffreid.engine.timing import in_turn, row
from ffreid.errors import UserError
from ffreid.pose.render.frames import Setup
from ffreid.pose.render.renderers import check_installed
from ffreid.pose.render.workers import processes, write_frame


def render_rows(quick: bool) -> list[dict[str, Any]]:
    """Time frames of five objects with 20,000 faces in all; none where OpenGL is missing.

    Frames a second are of processor time: of a core that does nothing else.
    """
    try:
        return [_row(quick)]
    except UserError as error:
        report.log(f"note: rendered frames are not timed: {error.message}")
        return []


def _row(quick: bool) -> dict[str, Any]:
    factor, frames = (0.2, 1) if quick else (1.0, 10)
    size = int(480 * factor), int(640 * factor)
    with TemporaryDirectory() as folder, processes(1) as pool:
        objects = Path(folder, "set")
        _write_objects(objects)
        calls: dict[str, Callable[[], object]] = {}
        used: dict[str, list[float]] = {}
        for name in map(check_installed, ("opengl", "embree")):
            setup = Setup(
                objects=objects,
                intrinsics=(572 * factor, 572 * factor, 320 * factor, 240 * factor),
                size=size,
                depth_scale=10000.0,
                seed=SEED,
                instances=1,
                noise=True,
                renderer=name,
            )
            used[name] = []
            write = partial(_write, setup, Path(folder, name), frames)
            calls[name] = partial(_call, pool, write, count(), used[name])
            calls[name]()  # starts
        times = in_turn(calls, 1 if quick else 3)
    now, plain = (times[name] / frames for name in ("opengl", "embree"))
    rate = frames / median(used["opengl"][1:])
    stage = f"rendered frame, {size[0]} x {size[1]}, 5 objects, to files (plain: embree)"
    return row(f"{stage}: {rate:.3g} a second of a core", now, plain, part=True)


def _call(
    pool: ProcessPoolExecutor,
    write: Callable[[int], float],
    numbers: "count[int]",
    used: list[float],
) -> None:
    used.append(pool.submit(write, next(numbers)).result())


def _write(setup: Setup, folder: Path, frames: int, batch: int) -> float:
    """Write a batch of frames; return the seconds of processor time."""
    start = process_time()
    for number in range(batch * frames, (batch + 1) * frames):
        write_frame(setup, folder, "train", number)
    return process_time() - start


def _write_objects(folder: Path) -> None:
    import trimesh

    made: list[Any] = [
        trimesh.creation.box([80.0, 60, 110]).subdivide_to_size(8),
        trimesh.creation.cylinder(35, 100, sections=64).subdivide_to_size(16),
        trimesh.creation.icosphere(4, 45),
        trimesh.creation.torus(45, 15, 64, 32),
        trimesh.creation.capsule(90, 30, count=[48, 48]),
    ]
    models = folder / "models"
    models.mkdir(parents=True)
    for number, mesh in enumerate(made, 1):
        mesh.visual.vertex_colors = [40 * number, 250 - 40 * number, 120, 255]
        mesh.export(models / f"obj_{number:06d}.ply")
    info = {number: {"diameter": float(mesh.scale)} for number, mesh in enumerate(made, 1)}
    (models / "models_info.json").write_text(json.dumps(info))
