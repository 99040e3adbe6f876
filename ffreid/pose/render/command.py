"""``ffreid render``: a BOP dataset of rendered frames, by several processes, resumable."""

import json
import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffreid import report
from ffreid.atomic import partial_file, remove_partial_files, write_json
from ffreid.engine.dataset_files import read_text
from ffreid.engine.distributed.group import cores
from ffreid.engine.tracking import run_lock
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.own.cameras import Camera, CameraFile
from ffreid.pose.own.read import check_camera, image_size
from ffreid.pose.render.frames import (
    PARTS,
    PER_SCENE,
    Setup,
    part_file,
    scene_folder,
)
from ffreid.pose.render.meshes import digest, objects_files, read_objects
from ffreid.pose.render.renderers import PACKAGES, open_renderer
from ffreid.pose.render.workers import cannot_write, check_opengl, write_all

VERSION = 1
INFO_FILE = "render.json"
"""Holds what the frames in a folder depend on."""
CAMERA = np.array([[572.4114, 0, 325.2611], [0, 573.57043, 242.04899], [0, 0, 1]])
"""Of LineMOD's sensor, for images of 480 x 640."""
DEPTH_SCALE, DEPTH_SCALES = 10000.0, (200.0, 20000.0)
"""Units per metre by default, and those of 5 mm steps to 3.3 m in 16 bits."""
SPLIT = re.compile(r"(train|val|test)(_[a-z0-9]+)?")
LARGEST_COUNT = 1_000_000
MOST_INSTANCES = 20
"""Of an object: a renderer tells 255 bodies apart."""
VIEWS = ("all", "front")
VISIBLE = 0.1
"""Share of an instance that must be visible to be a target of a test."""
TRUTH = {"scene_camera.json": "camera", "scene_gt.json": "gt", "scene_gt_info.json": "gt_info"}
"""Files of a scene, the last of which is complete if all are, and parts of a frame's truth."""


def render(
    objects: Path,
    out: Path,
    *,
    frames: int,
    test: int = 0,
    camera: Path | None = None,
    size: str | None = None,
    split: str = "train_pbr",
    seed: int = 0,
    workers: int | None = None,
    renderer: str | None = None,
    instances: int = 1,
    views: str = "all",
    noise: bool = True,
) -> Path:
    """Render frames of an object set into a BOP dataset in `out`; what is there is kept.

    See `ffreid.api.render` for the arguments.

    Raises:
        UserError: a wrong argument; objects or camera that cannot be used; `out` holds other files.
    """
    counts = {split: frames} | ({"test": test} if test else {})
    _check(counts, frames, test, seed, instances, workers, renderer)
    if views not in VIEWS:
        raise UserError(f"--views is {views!r}", f"choose one of: {', '.join(VIEWS)}")
    read_objects(objects)
    origin, (height, width) = _camera(camera, size)
    setup = Setup(
        objects=objects.resolve(),
        intrinsics=tuple(origin.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()),
        size=(height, width),
        depth_scale=origin.depth_scale or DEPTH_SCALE,
        seed=seed,
        instances=instances,
        views=views,
        noise=noise,
        renderer=renderer or "opengl",
    )
    known = _read_info(out)
    setup = replace(setup, renderer=renderer or known.get("renderer", "opengl"))
    _check_out(out, setup, known)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    with run_lock.lock(out, "use another folder for --out"):
        _render(setup, out, counts, workers, can_choose=not (renderer or known))
    return out


def _render(
    setup: Setup, out: Path, counts: dict[str, int], workers: int | None, *, can_choose: bool
) -> None:
    tasks = [
        (name, number)
        for name, count in counts.items()
        for number in sorted(set(range(count)) - _done(out, name, count))
    ]
    if tasks:
        setup = replace(setup, renderer=_usable(setup.renderer, can_choose=can_choose))
    _prepare(out, setup)
    total = sum(counts.values())
    if tasks:
        used = min(workers or cores(), len(tasks))
        noun = "process" if used == 1 else "processes"
        kept = f", {total - len(tasks)} are there already" if len(tasks) < total else ""
        report.log(f"rendering {len(tasks)} frames with {setup.renderer}, {used} {noun}{kept}")
        started = time.monotonic()
        with ProgressBar("rendering", total, done=total - len(tasks)) as bar:
            for _ in write_all(setup, out, tasks, used):
                bar.advance()
        seconds = time.monotonic() - started
        report.log(f"{len(tasks) / seconds:.1f} frames a second")
    for name in counts:
        _assemble(out, name)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    if "test" in counts:
        _write_targets(out)
    there = {name: _count(out, name) for name in counts}
    if more := [name for name, count in counts.items() if there[name] > count]:
        report.log(f"note: {out / more[0]} has {there[more[0]]} frames, more than were asked for")
    if not (out / "test").is_dir():
        report.log("note: there are no test frames, which ffreid train evaluates on: add --test N")
    splits = ", ".join(f"{count} in {name}" for name, count in there.items())
    report.log(f"dataset {out}: {splits}; train with --dataset bop --root {out}")


def _check(
    counts: dict[str, int],
    frames: int,
    test: int,
    seed: int,
    instances: int,
    workers: int | None,
    renderer: str | None,
) -> None:
    for name, value, least in (
        ("--frames", frames, 1),
        ("--test", test, 0),
        ("--seed", seed, 0),
        ("--instances", instances, 1),
        ("--workers", 1 if workers is None else workers, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}", f"use a number of {least} or more")
    for name, value, largest in (
        ("--frames", frames, LARGEST_COUNT),
        ("--test", test, LARGEST_COUNT),
        ("--instances", instances, MOST_INSTANCES),
    ):
        if value > largest:
            raise UserError(f"{name} is {value}", f"use a number of at most {largest}")
    for split in counts:
        if not SPLIT.fullmatch(split):
            raise UserError(
                f"--split is {split!r}", "begin with train, val or test, e.g. train_pbr"
            )
    if test and len(counts) == 1:
        raise UserError("--test and --split test cannot be combined", "remove --test")
    if renderer is not None and renderer not in PACKAGES:
        raise UserError(f"unknown renderer {renderer!r}", f"choose one of: {', '.join(PACKAGES)}")


def _camera(path: Path | None, text: str | None) -> tuple[Camera, tuple[int, int]]:
    """The camera, and the size of its images, to which `text` scales them."""
    size = None if text is None else image_size(text)
    if path is None:
        found = Camera(CAMERA, (480, 640), DEPTH_SCALE, origin="the default camera")
    else:
        found = CameraFile(path).camera(None, size or (480, 640))
    if found.distorted or found.matrix[0, 1]:
        what = "lens distortion" if found.distorted else "skew"
        report.log(f"note: {found.origin} has {what}, which is not rendered")
    if not DEPTH_SCALES[0] <= (found.depth_scale or DEPTH_SCALE) <= DEPTH_SCALES[1]:
        raise UserError(
            f"{found.origin}: depth_scale is {found.depth_scale:g} units per metre",
            f"images of 16 bits hold depth of {DEPTH_SCALES[0]:g} to {DEPTH_SCALES[1]:g}",
        )
    own = found.size or size or (480, 640)
    size = size or own
    factors = np.array([[size[1] / own[1]], [size[0] / own[0]], [1]])
    if abs(factors[0, 0] / factors[1, 0] - 1) > 0.02:
        raise UserError(
            f"--size is {size[0]}x{size[1]}, but images of {found.origin} have "
            f"{own[0]} x {own[1]} pixels",
            f"use the same proportions, e.g. --size {own[0] // 2}x{own[1] // 2}",
        )
    # The middle of the first pixel is (0, 0).
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    matrix = (found.matrix + half) * factors - half
    scaled = Camera(matrix, size, found.depth_scale, origin=found.origin)
    check_camera(scaled, size)
    return scaled, size


def _usable(name: str, *, can_choose: bool) -> str:
    """The renderer of this name; Embree if that cannot be used and `can_choose`."""
    try:
        check_opengl() if name == "opengl" else open_renderer(name)
    except UserError as error:
        if not can_choose:
            raise
        name = "embree"
        open_renderer(name)
        report.log(f"note: {error.message}; rendering with embree, several times slower")
    return name


def _read_info(out: Path) -> dict[str, Any]:
    try:
        info = json.loads(read_text(out / INFO_FILE))
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _facts(setup: Setup) -> dict[str, Any]:
    """What the frames in a folder depend on, for `INFO_FILE`."""
    values = json.loads(json.dumps({**asdict(setup), "objects": digest(setup.objects)}))
    return {"version": VERSION, **values}


def _check_out(out: Path, setup: Setup, known: dict[str, Any]) -> None:
    """Refuse a folder of other frames, or of something else."""
    hint = "use a new folder, or the same arguments to add what is missing"
    if known:
        for name, value in _facts(setup).items():
            if known.get(name) != value:
                raise UserError(
                    f"{out} holds other frames ({INFO_FILE}: {name} {known.get(name)!r}, "
                    f"not {value!r})",
                    hint,
                )
    elif out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - {run_lock.NAME}):
        raise UserError(f"{out} is not empty and holds no rendered frames ({INFO_FILE})", hint)


def _prepare(out: Path, setup: Setup) -> None:
    """Write what the frames have in common."""
    height, width = setup.size
    fx, fy, cx, cy = setup.intrinsics
    camera = {"width": width, "height": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    try:
        (out / "models").mkdir(exist_ok=True)
        remove_partial_files(out / "models")
        write_json(out / INFO_FILE, _facts(setup))
        write_json(out / "camera.json", camera | {"depth_scale": 1000 / setup.depth_scale})
        for name, path in objects_files(setup.objects).items():
            if not (out / name).exists():
                part = partial_file(out / name)
                shutil.copyfile(path, part)
                part.replace(out / name)
    except OSError as error:
        raise cannot_write(out, error) from error


def _done(out: Path, split: str, count: int) -> set[int]:
    """Numbers of the frames that are complete."""
    done = set()
    for first in range(0, count, PER_SCENE):
        path = scene_folder(out, split, first) / list(TRUTH)[-1]
        done |= {first + int(name) for name in _load(path)}
        parts = part_file(out, split, first).parent
        done |= {first + int(p.stem) for p in parts.glob("*.json") if p.stem.isdecimal()}
    return done


def _count(out: Path, split: str) -> int:
    return sum(len(_load(path)) for path in (out / split).glob(f"*/{list(TRUTH)[-1]}"))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {error}", "remove the folder of this scene"
        ) from error
    assert isinstance(content, dict)
    return content


def _assemble(out: Path, split: str) -> None:
    """Move the truth of complete frames into the files of their scenes."""
    for folder in sorted((out / PARTS / split).glob("*")):
        parts = {p.stem: json.loads(p.read_text()) for p in folder.glob("[0-9]*.json")}
        scene = out / split / folder.name
        for name, key in TRUTH.items():
            content = _load(scene / name) | {number: part[key] for number, part in parts.items()}
            write_json(scene / name, dict(sorted(content.items(), key=lambda item: int(item[0]))))


def _write_targets(out: Path) -> None:
    """BOP's list of what there is to find in the test images."""
    targets = []
    for scene in sorted((out / "test").glob("*")):
        truth, infos = (_load(scene / name) for name in list(TRUTH)[1:])
        for image, entries in truth.items():
            counts: dict[int, int] = {}
            for entry, info in zip(entries, infos[image], strict=True):
                if info["visib_fract"] >= VISIBLE:
                    counts[entry["obj_id"]] = counts.get(entry["obj_id"], 0) + 1
            targets += [
                {
                    "im_id": int(image),
                    "inst_count": count,
                    "obj_id": number,
                    "scene_id": int(scene.name),
                }
                for number, count in sorted(counts.items())
            ]
    path = out / "test_targets_bop19.json"
    part = partial_file(path)
    part.write_text(json.dumps(targets, indent=1))
    part.replace(path)
