"""BOP's form of models: PLY in millimetres, a texture beside it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffreid import atomic
from ffreid.pose.object_set.surface import Surface


def write_ply(path: Path, surface: Surface) -> None:
    """Write a surface (metres) in millimetres, and its texture as PNG beside it."""
    columns: list[tuple[str, str, Any]] = [
        (axis, "float", surface.vertices[:, i] * 1000) for i, axis in enumerate("xyz")
    ]
    comments = ["comment written by ffreid"]
    if surface.texture is not None and surface.uv is not None:
        texture = path.with_suffix(".png")
        cv2.imwrite(str(texture), surface.texture[:, :, ::-1])
        comments.append(f"comment TextureFile {texture.name}")
        columns += [(f"texture_{c}", "float", surface.uv[:, i]) for i, c in enumerate("uv")]
    elif surface.colours is not None:
        names = ("red", "green", "blue")
        columns += [(name, "uchar", surface.colours[:, i]) for i, name in enumerate(names)]
    types = {"float": "<f4", "uchar": "u1"}
    table = np.zeros(len(surface.vertices), [(name, types[kind]) for name, kind, _ in columns])
    for name, _, values in columns:
        table[name] = values
    faces = np.zeros(len(surface.faces), [("count", "u1"), ("rows", "<i4", 3)])
    faces["count"], faces["rows"] = 3, surface.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *comments,
        f"element vertex {len(table)}",
        *(f"property {kind} {name}" for name, kind, _ in columns),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    with atomic.atomic_write(path) as file:
        file.write("\n".join(header).encode() + table.tobytes() + faces.tobytes())
