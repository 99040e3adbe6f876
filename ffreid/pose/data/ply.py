"""The vertices of LineMOD's meshes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError, flat
from ffreid.pose.data.checks import extent
from ffreid.pose.resources import resource

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
FORMATS = ("ascii", "binary_little_endian")
HINT = "a .ply of format ascii or binary_little_endian with x, y, z a vertex is expected"


def mesh_vertices(folder: Path, number: int) -> npt.NDArray[np.float32]:
    """Read all vertices of LineMOD object `number`: (P, 3) metres, object frame.

    Args:
        folder: the data set's own folder, which holds ``models/obj_NN.ply`` in millimetres.
        number: the object's number.

    Raises:
        UserError: the file is missing, of another format, or in metres.
    """
    path = folder / "models" / f"obj_{number:02d}.ply"
    vertices = read_vertices(path)
    facts = resource("linemod")["models_info_mm"].get(str(number))
    known, ours = facts["diameter"] if facts else extent(vertices), extent(vertices)
    if not known / 100 < ours < known * 100:
        raise UserError(
            f"{path}: {ours:g} long where {known:g} mm are known",
            "millimetres are expected" + ": multiply it by 1000" * (ours < known),
        )
    return (vertices / 1000).astype(np.float32)


def read_vertices(path: Path) -> npt.NDArray[np.float64]:
    """Read a .ply file's vertices: (P, 3) in the file's unit.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", HINT) from error
    header, end, body = content.partition(b"end_header")
    if not content.startswith(b"ply") or not end:
        raise UserError(f"{path} is no .ply file", HINT)
    encoding, count, names, formats = _parse_header(path, header)
    if not count:
        raise UserError(f"{path} has no vertices", HINT)
    # The header's last line may end as on Windows.
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
        raise UserError(f"cannot read {path}: {flat(str(error))}", HINT) from error
    vertices = np.stack(columns, axis=1).astype(np.float64)
    if len(vertices) != count:
        raise UserError(f"{path}: {len(vertices)} vertices, its header says {count}", HINT)
    return vertices


def _parse_header(path: Path, header: bytes) -> tuple[str, int, list[str], list[str]]:
    """Encoding, number of vertices, and names and numpy types of a vertex's properties."""
    encoding, count, names, formats = "", 0, list[str](), list[str]()
    element = ""
    for line in header.decode("latin1").splitlines():
        match line.split():
            case ["format", encoding, *_]:
                pass
            case ["element", element, number, *_]:
                if element == "vertex":
                    count = int(number) if number.isdigit() else 0
                elif not names:
                    raise UserError(f"{path}: element '{element}' comes before the vertices", HINT)
            case ["property", kind, name] if element == "vertex" and kind in TYPES:
                names.append(name)
                formats.append("<" + TYPES[kind])
            case ["property", kind, *_] if element == "vertex":
                raise UserError(f"{path}: a vertex property of type '{kind}'", HINT)
    if encoding not in FORMATS or not set("xyz") <= set(names):
        raise UserError(f"{path}: format '{encoding}', vertices with {', '.join(names)}", HINT)
    return encoding, count, names, formats
