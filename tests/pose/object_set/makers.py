"""Meshes of one's own: a drill of four colours, a textured case, a plain box."""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from tests.pose.stand_ins import drill

BOX = 80.0, 60.0, 40.0


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
