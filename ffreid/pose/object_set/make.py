"""``ffreid objects``: from meshes to an object set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffreid import atomic, report
from ffreid.engine.dataset_files import describe_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.object_set.mesh_files import UNITS, MeshFile, check_mesh_file, read_mesh_file
from ffreid.pose.object_set.mesh_files import import_trimesh as import_trimesh
from ffreid.pose.object_set.ply import write_ply
from ffreid.pose.object_set.read import FILE, VERSION
from ffreid.pose.object_set.sheet import draw_sheet
from ffreid.pose.object_set.surface import Floats, sample
from ffreid.pose.object_set.symmetry_search import find_symmetries
from ffreid.pose.object_set.symmetry_text import axes_of, describe

_NUMBERED = re.compile(r"obj_(\d{1,9})")
_DENSE = 20_000
_LARGEST_COUNT = 64


@dataclass(frozen=True)
class Made:
    """An object of a set: its mesh, and its entries in objects.json and models_info.json."""

    mesh: MeshFile
    entry: dict[str, Any]
    info: dict[str, Any]
    sheet: Any


def make_objects(
    meshes: Sequence[str | Path],
    out: str | Path,
    *,
    unit: str | None = None,
    keypoints: int = 8,
    force: bool = False,
) -> dict[str, Any]:
    """Write an object set: models, keypoints, symmetries and a picture sheet of each object.

    Args:
        meshes: PLY, OBJ, STL or glTF files. A file ``obj_000005.ply`` keeps number 5, others get
            the free numbers from 1 in order. An object is named after its file.
        out: folder of the set: ``objects.json`` (metres), ``models/`` and sheets.
        unit: of the files, m or mm; None finds it.
        keypoints: number of keypoints of an object.
        force: replace the set in `out`.

    Returns:
        The content of ``objects.json``.

    Raises:
        UserError: a file cannot be used, its unit cannot be told, or `out` holds something else.
    """
    paths, folder = [Path(mesh) for mesh in meshes], Path(out)
    if unit is not None and unit not in UNITS:
        raise UserError(f"unknown unit {unit!r}", f"choose one of: {', '.join(UNITS)}")
    if not 3 <= keypoints <= _LARGEST_COUNT:
        raise UserError(f"{keypoints} keypoints", f"use 3 to {_LARGEST_COUNT}, e.g. 8")
    numbers = _numbers(paths)
    for path in paths:
        check_mesh_file(path)
    _check_out(folder, paths, force=force)
    import_trimesh()
    files = [read_mesh_file(path, unit) for path in paths]
    _check_different(files)
    atomic.check_writable(folder / FILE, stream=False)
    made = []
    with ProgressBar("symmetries and sheets", len(files)) as bar:
        for number, file in zip(numbers, files, strict=True):
            made.append(_make(number, file, keypoints))
            bar.advance(1)
    made.sort(key=lambda each: each.entry["number"])
    content = {"version": VERSION, "objects": [each.entry for each in made]}
    _write(folder, made, content)
    return content


def report_objects(content: dict[str, Any], out: Path) -> None:
    """Print the table of a set that was made."""
    rows: list[list[report.Cell]] = []
    for entry in content["objects"]:
        size = np.ptp(np.array(entry["corners"]), axis=0) * 1000
        rows.append(
            [
                *(entry["number"], entry["name"]),
                *(" x ".join(f"{side:.0f}" for side in size), entry["diameter"] * 1000),
                *(entry[name] for name in ("unit", "faces", "colour", "symmetries")),
            ]
        )
    columns = ["number", "object", "size mm", "diameter mm", "file's unit", "faces", "colour"]
    report.show_table(f"{out}: {len(rows)} objects", [*columns, "symmetries"], rows, digits=1)
    for entry in content["objects"]:
        for note in entry["notes"]:
            report.log(f"note: {entry['name']}: {note}")
    report.log(
        f"sheets: {out / 'obj_*.png'}; symmetries can be changed in "
        f"{out / 'models' / 'models_info.json'}"
    )


def _numbers(paths: Sequence[Path]) -> list[int]:
    """Number the objects, see `make_objects`."""
    if not paths:
        raise UserError("no meshes", "use ffreid objects MESH... --out FOLDER")
    names: dict[str, Path] = {}
    for path in paths:
        if path.stem in names:
            raise UserError(
                f"two objects are named {path.stem}: {names[path.stem]} and {path}",
                "rename one of the files",
            )
        names[path.stem] = path
    kept = [int(m[1]) if (m := _NUMBERED.fullmatch(path.stem)) else 0 for path in paths]
    taken = [number for number in kept if number]
    if len(set(taken)) < len(taken):
        number = max(taken, key=taken.count)
        raise UserError(f"two files have the number {number}", "rename one of the files")
    free = iter(n for n in range(1, len(paths) + max(taken, default=0) + 1) if n not in taken)
    return [number or next(free) for number in kept]


def _check_out(folder: Path, paths: Sequence[Path], *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is not a folder", "use another path")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / FILE).is_file():
        raise UserError(
            f"--out {folder} holds something else: {describe_folder(folder)}",
            "use a new folder",
        )
    if not force:
        raise UserError(
            f"--out {folder} holds an object set", "use another folder, or --force to replace it"
        )
    if inside := [path for path in paths if folder.resolve() in path.resolve().parents]:
        raise UserError(
            f"{inside[0]} is in the folder that --force replaces", "use another folder for --out"
        )


def _check_different(files: Sequence[MeshFile]) -> None:
    known: dict[bytes, Path] = {}
    for file in files:
        shape = file.surface
        key = b"".join(
            np.ascontiguousarray(part).tobytes()
            for part in (shape.vertices, shape.faces, shape.colours, shape.texture)
            if part is not None
        )
        if key in known:
            raise UserError(
                f"{file.path} is the same mesh as {known[key]}",
                "leave one out: a network cannot tell them apart",
            )
        known[key] = file.path


def _make(number: int, file: MeshFile, count: int) -> Made:
    surface, diameter = file.surface, file.diameter
    dense = np.concatenate(
        [surface.vertices, sample(surface.vertices, surface.faces, _DENSE).points]
    )
    keypoints = dense[farthest_points(dense, count, init_centre=True)]
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    rotations, axes, middle = find_symmetries(surface, diameter)
    info: dict[str, Any] = {"diameter": diameter * 1000}
    for axis, least, size in zip("xyz", low * 1000, (high - low) * 1000, strict=True):
        info |= {f"min_{axis}": least, f"size_{axis}": size}
    if rotations:
        info["symmetries_discrete"] = [_transform(r, middle * 1000) for r in rotations]
    if axes:
        info["symmetries_continuous"] = [
            {"axis": axis.tolist(), "offset": (middle * 1000).tolist()} for axis in axes
        ]
    info = atomic.to_json_data(info)
    notes = list(file.notes)
    centre = (low + high) / 2
    if (away := float(np.linalg.norm(centre))) > diameter:
        notes.append(f"its origin is {away:.3g} m from its middle; poses are those of the origin")
    colour = "none"
    if surface.is_coloured:
        colour = "texture" if surface.texture is not None else "vertices"
    entry = {
        "number": number,
        "name": file.path.stem,
        "keypoints": keypoints,
        "centre": centre,
        "corners": [[(low, high)[i >> a & 1][a] for a in range(3)] for i in range(8)],
        "diameter": diameter,
        "symmetric": bool(rotations or axes),
        "symmetries": describe(info),
        "file": file.path.name,
        "unit": file.unit,
        "faces": len(surface.faces),
        "colour": colour,
        "notes": notes,
    }
    sheet = draw_sheet(surface, diameter, keypoints, axes_of(info))
    return Made(file, atomic.to_json_data(entry), info, sheet)


def _transform(rotation: Floats, middle: Floats) -> list[float]:
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = middle - rotation @ middle
    # Without -0.0 and 1e-17, for people who edit them.
    flat: list[float] = (transform.round(9) + 0.0).ravel().tolist()
    return flat


def _write(folder: Path, made: Sequence[Made], content: dict[str, Any]) -> None:
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)
    for old in [*models.glob("obj_*"), *folder.glob("obj_*.png")]:
        old.unlink()
    for each in made:
        name = f"obj_{each.entry['number']:06d}"
        write_ply(models / f"{name}.ply", each.mesh.surface)
        cv2.imwrite(str(folder / f"{name}.png"), each.sheet[:, :, ::-1])
    infos = {str(each.entry["number"]): each.info for each in made}
    atomic.write_json(models / "models_info.json", infos)
    atomic.write_json(folder / FILE, content)  # the last: a set without it is none
