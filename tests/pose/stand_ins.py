"""Meshes of three objects, to try one's own with: ``python -m tests.pose.stand_ins FOLDER``.

A drill (PLY with vertex colours), a mug (glTF) and a box with a printed texture (OBJ), metres.
"""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

trimesh: Any = pytest.importorskip("trimesh")

COLOURS = {
    "red": (200, 45, 40),
    "dark": (45, 45, 50),
    "steel": (150, 155, 165),
    "blue": (35, 80, 170),
}


def drill() -> Any:
    """A body with a chuck, a slanted grip and a battery: 18 x 17 x 7 cm."""
    axis = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0])
    slant = trimesh.transformations.rotation_matrix(np.radians(12), [0, 1, 0])
    body = trimesh.creation.cylinder(0.028, 0.11, sections=40, transform=axis)
    chuck = trimesh.creation.cone(0.02, 0.05, sections=32, transform=axis)
    chuck.apply_translation([0.055, 0, 0])
    grip = trimesh.creation.box([0.035, 0.032, 0.1])
    grip.apply_translation([0, 0, -0.06])
    grip.apply_transform(slant)
    battery = trimesh.creation.box([0.085, 0.06, 0.03])
    battery.apply_translation([-0.02, 0, -0.12])
    parts = zip((body, chuck, grip, battery), ("red", "steel", "dark", "blue"), strict=True)
    return trimesh.util.concatenate([_painted(part, name) for part, name in parts])


def mug() -> Any:
    """A hollow cylinder with a handle and a stripe: 12 x 8.4 x 9.5 cm."""
    wall = trimesh.creation.annulus(0.037, 0.042, 0.095, sections=48).subdivide_to_size(0.012)
    bottom = trimesh.creation.cylinder(0.04, 0.005, sections=48)
    bottom.apply_translation([0, 0, -0.045])
    handle = trimesh.creation.torus(0.027, 0.006, major_sections=32, minor_sections=12)
    handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    handle.apply_translation([0.052, 0, 0])
    wall, bottom, handle = (_painted(p, "blue") for p in (wall, bottom, handle))
    band = np.abs(wall.vertices[:, 2] - 0.02) < 0.012
    wall.visual.vertex_colors[band] = (235, 215, 120, 255)
    return trimesh.util.concatenate([wall, bottom, handle])


def carton() -> Any:
    """A box of 16 x 21 x 6 cm, printed on all sides: the texture is 3 x 2 fields of 128 pixels."""
    box = trimesh.creation.box([0.16, 0.21, 0.06])
    box.unmerge_vertices()
    sheet = np.zeros((256, 384, 3), np.uint8)
    fields = np.zeros((len(box.vertices), 2))
    for side in range(6):
        axis, sign = side % 3, 1 if side < 3 else -1
        left, top = 128 * (side % 3), 128 * (side // 3)
        field = sheet[top : top + 128, left : left + 128]
        field[:] = ((190, 60, 30), (225, 190, 60), (60, 120, 60))[axis]
        cv2.circle(field, (40 + 30 * (side // 3), 44), 26, (240, 240, 230), -1)
        cv2.rectangle(field, (14, 90), (114, 112), (30, 30, 90), -1)
        cv2.putText(field, "ABCDEF"[side], (56, 72), 0, 1.6, (20, 20, 20), 4)
        of_side = np.sign(box.face_normals[:, axis]).round() == sign
        of_side &= np.abs(box.face_normals[:, axis]) > 0.5
        rows = box.faces[of_side].ravel()
        across = np.delete(box.vertices[rows] / box.extents + 0.5, axis, axis=1)
        if (axis == 1) == (sign > 0):  # seen from outside, this axis points to the left
            across[:, 0] = 1 - across[:, 0]
        across[:, 1] = 1 - across[:, 1]
        pixels = np.array([left, top]) + 1 + 126 * across
        fields[rows] = np.column_stack([pixels[:, 0] / 384, 1 - pixels[:, 1] / 256])
    material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(sheet))
    box.visual = trimesh.visual.TextureVisuals(uv=fields, material=material)
    return box


def _painted(mesh: Any, colour: str) -> Any:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=[*COLOURS[colour], 255])
    return mesh


def write(folder: Path) -> list[Path]:
    """Write ``drill.ply``, ``mug.glb`` and ``carton.obj`` with its texture."""
    folder.mkdir(parents=True, exist_ok=True)
    meshes = {"drill.ply": drill(), "mug.glb": mug(), "carton.obj": carton()}
    for name, mesh in meshes.items():
        mesh.export(folder / name)
    return [folder / name for name in meshes]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
