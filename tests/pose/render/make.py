"""An object set of three small meshes: a corner with vertex colours, a printed box, a peg."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh

NUMBERS = 2, 5, 6


def corner() -> Any:
    """Two boxes at a right angle, of two colours: 90 x 70 x 60 mm."""
    parts = [trimesh.creation.box([90.0, 30, 60]), trimesh.creation.box([30.0, 40, 60])]
    parts[1].apply_translation([-30, 35, 0])
    for part, colour in zip(parts, ([220, 40, 30, 255], [30, 60, 220, 255]), strict=True):
        part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=colour)
    return trimesh.util.concatenate(parts)


def make_set(root: Path) -> Path:
    """Write the set as ``ffreid objects`` does, with corners as keypoints."""
    models = root / "models"
    models.mkdir(parents=True)
    peg = trimesh.creation.cylinder(20, 80, sections=24)
    peg.visual = trimesh.visual.ColorVisuals(peg, vertex_colors=[60, 200, 90, 255])
    box = trimesh.creation.box([80.0, 60, 40])
    info, table = {}, []
    for number, mesh in zip(NUMBERS, (corner(), box, peg), strict=True):
        info[number] = {"diameter": float(np.linalg.norm(mesh.extents))}
        corners = mesh.bounding_box.vertices / 1000
        table.append(
            {
                "number": number,
                "name": f"toy{number}",
                "keypoints": corners.tolist(),
                "centre": corners.mean(axis=0).tolist(),
                "corners": corners.tolist(),
                "diameter": info[number]["diameter"] / 1000,
                "symmetric": False,
            }
        )
        if number != 5:
            mesh.export(models / f"obj_{number:06d}.ply")
    write_textured(models, box)
    (models / "models_info.json").write_text(json.dumps(info))
    (root / "objects.json").write_text(json.dumps({"version": 1, "objects": table}))
    return root


def write_textured(models: Path, box: Any) -> None:
    """Write object 5 in BOP's form: a .ply file that names its texture, of four fields."""
    sheet = np.zeros((64, 64, 3), np.uint8)
    for index, colour in enumerate(((0, 0, 230), (0, 200, 230), (200, 120, 0), (240, 240, 240))):
        sheet[32 * (index // 2) :, 32 * (index % 2) :][:32, :32] = colour
    cv2.imwrite(str(models / "obj_000005.png"), sheet)
    box.unmerge_vertices()
    spots = box.vertices[:, :2] / box.extents[:2] + 0.5
    rows = [
        "ply", "format ascii 1.0", "comment TextureFile obj_000005.png",
        f"element vertex {len(box.vertices)}",
        *(f"property float {name}" for name in ("x", "y", "z", "texture_u", "texture_v")),
        f"element face {len(box.faces)}", "property list uchar int vertex_indices", "end_header",
        *(" ".join(map(str, row)) for row in np.hstack([box.vertices, spots]).round(6).tolist()),
        *(f"3 {a} {b} {c}" for a, b, c in box.faces.tolist()),
    ]  # fmt: skip
    (models / "obj_000005.ply").write_text("\n".join(rows) + "\n")
