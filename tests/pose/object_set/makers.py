"""Meshes of one's own, made: a textured can, a drill of three colours, a plain box."""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

BOX = 80.0, 60.0, 40.0


def drill() -> Any:
    """Three solids of three colours, millimetres, without symmetries."""
    body = trimesh.creation.cylinder(28, 140, sections=16)
    body.apply_transform(np.array(trimesh.transformations.rotation_matrix)(np.pi / 2, [0, 1, 0]))
    handle = trimesh.creation.box([35, 30, 120])
    handle.apply_translation([-40, 0, -70])
    chuck = trimesh.creation.box([50, 20, 20])
    chuck.apply_translation([90, 0, 0])
    parts = {(220, 160, 20): body, (40, 40, 45): handle, (150, 150, 155): chuck}
    for colour, part in parts.items():
        part.visual.vertex_colors = np.tile([*colour, 255], (len(part.vertices), 1))
    return trimesh.util.concatenate(list(parts.values()))


def textured_box() -> Any:
    """A box in metres; its texture is red, blue where x is positive."""
    box = trimesh.creation.box(np.array(BOX) / 1000).subdivide()
    corners = box.vertices[box.faces].reshape(-1, 3)
    image = np.full((8, 64, 3), (200, 30, 40), np.uint8)
    image[:, 32:] = 30, 60, 160
    mesh = trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)
    uv = np.column_stack([corners[:, 0] / 0.08 + 0.5, np.full(len(corners), 0.5)])
    visual: Any = trimesh.visual.TextureVisuals
    mesh.visual = visual(uv=uv, image=Image.fromarray(image))
    return mesh


def write_meshes(folder: Path) -> dict[str, Path]:
    """A mesh of each format in `folder`, which is made."""
    folder.mkdir()
    box = trimesh.creation.box(BOX)
    paths = {name: folder / name for name in ("drill.ply", "case.obj", "case.glb", "box.stl")}
    drill().export(paths["drill.ply"])
    textured_box().export(paths["case.obj"])
    textured_box().export(paths["case.glb"])
    box.export(paths["box.stl"])
    return paths
