"""The vertices of object meshes: YCB-Video's points.xyz and LineMOD's .ply files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import reason_of
from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.pose.defaults import LAYOUTS
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

Floats = npt.NDArray[np.floating]
Meshes = Mapping[int, Floats]
"""Vertices (P, 3) in metres, object frame, by class id."""

PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
BOX_TOLERANCE = 0.05
"""By how much of its diagonal a mesh's bounding box may differ from the object's."""
PLY_FORMATS = ("ascii", "binary_little_endian")
PLY_HINT = "use a .ply file of format ascii or binary_little_endian whose vertices have x, y, z"
XYZ_HINT = "write one vertex per line: x y z in metres"


class _XyzMeshes(dict[int, Floats]):
    """The meshes that are there; one that is not is an error when it is needed."""

    def __init__(self, folder: Path, objects: ObjectModels) -> None:
        super().__init__()
        self.folder, self.objects = folder, objects

    def __missing__(self, class_id: int) -> Floats:
        path = xyz_path(self.folder, self.objects, class_id)
        raise UserError(f"no mesh vertices {path}", f"expected {LAYOUTS['ycb'].files}")


def xyz_path(folder: Path, objects: ObjectModels, class_id: int) -> Path:
    """``models/<class>/points.xyz``."""
    return folder / "models" / objects.name(class_id) / "points.xyz"


def read_xyz_meshes(folder: Path, objects: ObjectModels) -> Meshes:
    """Read ``models/<class>/points.xyz`` of every class that has one.

    The others are errors when they are used: a part of a dataset has a part of its objects.
    """
    meshes = _XyzMeshes(folder, objects)
    for class_id in objects.class_ids:
        path = xyz_path(folder, objects, class_id)
        try:
            points = np.loadtxt(regular(path), np.float32, ndmin=2, encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {reason_of(error)}", XYZ_HINT) from error
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise UserError(f"{path}: lines must be three finite numbers", XYZ_HINT)
        check_mesh(path, points, objects, class_id)
        meshes[class_id] = points
    return meshes


def read_linemod_mesh(folder: Path, number: int) -> npt.NDArray[np.float32]:
    """Read ``models/obj_NN.ply`` (millimetres) of LineMOD object `number`: (P, 3) metres."""
    path = folder / "models" / f"obj_{number:02d}.ply"
    vertices = read_ply(path)
    _check_box(path, vertices, *_linemod_box(number), "millimetres")
    return (vertices / 1000).astype(np.float32)


def _linemod_box(number: int) -> tuple[Floats, Floats]:
    info = resource("linemod")["models_info_mm"][str(number)]  # its corners are in another frame
    low, size = (np.array([info[f"{what}_{axis}"] for axis in "xyz"]) for what in ("min", "size"))
    return low, low + size


def check_mesh(path: Path, points: Floats, objects: ObjectModels, class_id: int) -> None:
    """Refuse (P, 3) vertices in metres that are not of the object whose keypoints are used."""
    corners = objects.corners[class_id - 1]
    low, high = corners.min(axis=0), corners.max(axis=0)
    if objects.is_linemod:
        low, high = (side / 1000 for side in _linemod_box(objects.numbers[class_id - 1]))
    _check_box(path, points, low, high, "metres")


def _check_box(path: Path, points: Floats, low: Floats, high: Floats, unit: str) -> None:
    """Refuse (P, 3) vertices that are not of the object whose keypoints are used."""
    sizes, expected = np.ptp(points, axis=0), high - low
    tolerance = BOX_TOLERANCE * np.linalg.norm(expected)
    if np.abs(sizes - expected).max() > tolerance:
        here, there = (" x ".join(f"{x:.3g}" for x in box) for box in (sizes, expected))
        hint = f"use the dataset's own mesh, in {unit}, with the axes of the keypoints"
        if not 0.01 < sizes.max() / expected.max() < 100:
            verb = "divide" if sizes.max() > expected.max() else "multiply"
            hint = f"{verb} the vertices by 1000 if their unit is not {unit}"
        raise UserError(
            f"{path}: the mesh is {here}, that of the keypoints is {there} {unit} large", hint
        )
    centre, middle = (points.min(axis=0) + points.max(axis=0)) / 2, (low + high) / 2
    if (distance := np.linalg.norm(centre - middle)) > tolerance:
        raise UserError(
            f"{path}: the middle of the mesh is {distance:.3g} {unit} from that of the object "
            "whose keypoints are used",
            "use the dataset's own mesh: others, e.g. of BOP, have another origin",
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
