"""The vertices of object meshes: YCB-Video's points.xyz and LineMOD's .ply files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.pose.defaults import LAYOUTS
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

Meshes = Mapping[int, npt.NDArray[np.floating]]
"""Vertices (P, 3) in metres, object frame, by class id."""

PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
PLY_FORMATS = ("ascii", "binary_little_endian")
PLY_HINT = "use a .ply file of format ascii or binary_little_endian whose vertices have x, y, z"
XYZ_HINT = "write one vertex per line: x y z in metres"


def read_xyz_meshes(folder: Path, objects: ObjectModels) -> Meshes:
    """Read ``models/<class>/points.xyz`` of every class."""
    meshes = {}
    for class_id in objects.class_ids:
        path = folder / "models" / objects.name(class_id) / "points.xyz"
        try:
            points = np.loadtxt(path, np.float32, ndmin=2, encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise UserError(
                f"no mesh vertices {path}", f"expected {LAYOUTS['ycb'].files}"
            ) from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {flat(str(error))}", XYZ_HINT) from error
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise UserError(f"{path}: lines must be three finite numbers", XYZ_HINT)
        _check_unit(path, points, _extent(objects.keypoints[class_id - 1]), "metres")
        meshes[class_id] = points
    return meshes


def read_linemod_mesh(folder: Path, number: int) -> npt.NDArray[np.float32]:
    """Read ``models/obj_NN.ply`` (millimetres) of LineMOD object `number`: (P, 3) metres."""
    path = folder / "models" / f"obj_{number:02d}.ply"
    vertices = read_ply(path)
    expected = resource("linemod")["models_info_mm"][str(number)]["diameter"]
    _check_unit(path, vertices, expected, "millimetres")
    return (vertices / 1000).astype(np.float32)


def _extent(points: npt.NDArray[np.floating]) -> float:
    """Longest side of the bounding box of (P, 3) points, in their unit."""
    return float(np.ptp(points, axis=0).max())


def _check_unit(path: Path, points: npt.NDArray[np.floating], expected: float, unit: str) -> None:
    size = _extent(points)
    if not expected / 100 < size < expected * 100:
        raise UserError(
            f"{path}: the mesh is {size:g} long, about {expected:g} {unit} are expected",
            f"{'divide' if size > expected else 'multiply'} the vertices by 1000 if their unit "
            f"is not {unit}",
        )


def read_ply(path: Path) -> npt.NDArray[np.float64]:
    """Read the vertices of a .ply file: (P, 3) in the file's unit."""
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", PLY_HINT) from error
    header, end, body = content.partition(b"end_header")
    if not content.startswith(b"ply") or not end:
        raise UserError(f"{path} is not a .ply file", PLY_HINT)
    encoding, count, names, formats = _parse_ply_header(path, header)
    if not count:
        raise UserError(f"{path} has no vertices", PLY_HINT)
    # The header's last line may end in \r\n.
    body = body[body.index(b"\n") + 1 :] if b"\n" in body else b""
    try:
        if encoding == "ascii":
            lines = body.decode("ascii").splitlines()[:count]
            table = np.array([line.split()[: len(names)] for line in lines], np.float64)
            columns = [table[:, names.index(axis)] for axis in "xyz"]
        else:
            record = np.dtype(list(zip(names, formats, strict=True)))
            rows = np.frombuffer(body, record, count)
            columns = [rows[axis] for axis in "xyz"]
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {flat(str(error))}", PLY_HINT) from error
    vertices = np.stack(columns, axis=1).astype(np.float64)
    if len(vertices) != count:
        raise UserError(f"{path}: {len(vertices)} vertices instead of {count}", PLY_HINT)
    return vertices


def _parse_ply_header(path: Path, header: bytes) -> tuple[str, int, list[str], list[str]]:
    """Encoding, number of vertices, and names and numpy types of a vertex's properties."""
    encoding, count, names, formats = "", 0, list[str](), list[str]()
    element = ""
    for line in header.decode("latin1").splitlines():
        match line.split():
            case ["format", encoding, *_]:
                pass
            case ["element", element, number, *_]:
                if element == "vertex":
                    count = int(number) if number.isdecimal() and len(number) < 19 else 0
                elif not names:
                    raise UserError(f"{path}: element '{element}' precedes 'vertex'", PLY_HINT)
            case ["property", kind, name] if element == "vertex" and kind in PLY_TYPES:
                names.append(name)
                formats.append("<" + PLY_TYPES[kind])
            case ["property", kind, *_] if element == "vertex":
                raise UserError(f"{path}: a vertex property of type '{kind}'", PLY_HINT)
    if encoding not in PLY_FORMATS or not set("xyz") <= set(names):
        raise UserError(f"{path}: format '{encoding}', properties {', '.join(names)}", PLY_HINT)
    return encoding, count, names, formats
