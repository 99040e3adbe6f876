"""Meshes to render: of an object set or the models of a BOP dataset, and distractors."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError
from ffreid.pose.bop.dataset import load_model, numbered_models
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.object_set.read import read_objects as read_set

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

LARGEST, SMALLEST = 1.5, 0.005
"""Longest sides of objects, metres: what a structured-light camera can see."""
HINT = "name the folder that ffreid objects wrote, or a BOP dataset: models/models_info.json, …"
_SHARP = np.cos(np.deg2rad(40))
_POSES, _HULL = 12, 60
"""Poses in which an object rests, and corners of its hull that they are found with, at most."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface, in metres.

    Attributes:
        vertices: (V, 3).
        normals: (V, 3) unit vectors; vertices at sharp edges occur once for each side.
        faces: (F, 3) indices of vertices.
        uv: (V, 2) texture coordinates, (0, 0) at the lower left of the texture.
        colours: (V, 3) of vertices, 0 … 1; the texture is multiplied by them.
        texture: (H, W, 3) RGB.
        number: the object's number, 0 for other things.
    """

    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    uv: npt.NDArray[np.float32]
    colours: npt.NDArray[np.float32]
    texture: Picture | None = None
    number: int = 0

    @cached_property
    def diameter(self) -> float:
        """The largest side of the box around it, times the root of 1.5: about the diameter."""
        return float(np.ptp(self.vertices, axis=0).max() * np.sqrt(1.5))

    @cached_property
    def resting(self) -> tuple[Floats, Floats]:
        """Rotations (P, 3, 3) in which it stands on a plane, and their probabilities (P,)."""
        from trimesh import Trimesh, poses

        if not self.number:  # solids stand on their axis or lie on their side
            return np.array([np.eye(3), [[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]]), np.full(2, 0.5)
        try:
            hull = Trimesh(self.vertices, self.faces).convex_hull
            if len(hull.vertices) > _HULL:
                corners = np.asarray(hull.vertices, np.float32)
                hull = Trimesh(corners[farthest_points(corners, _HULL)]).convex_hull
            found, chances = poses.compute_stable_poses(hull, n_samples=1)
        except (ValueError, IndexError, RuntimeError, np.linalg.LinAlgError):  # of a flat mesh
            return np.eye(3)[None], np.ones(1)
        best = np.argsort(-chances)[:_POSES]
        if not len(best):
            return np.eye(3)[None], np.ones(1)
        return found[best, :3, :3], chances[best] / chances[best].sum()

    def surface(self, spacing: float) -> Floats:
        """Points (P, 3) all over the surface, about `spacing` metres apart, and all vertices."""
        from trimesh import Trimesh, sample

        mesh = Trimesh(self.vertices, self.faces, process=False)
        count = int(np.clip(4 * mesh.area / spacing**2, 500, 4000))
        points = np.asarray(sample.sample_surface(mesh, count, seed=0)[0], np.float64)
        return np.concatenate([points, self.vertices[_few(len(self.vertices))]])


def _few(count: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, 500)).astype(np.int64)


def models_folder(folder: Path) -> Path:
    """The folder with models_info.json: ``models`` of an object set or BOP dataset, or itself.

    Raises:
        UserError: there is none.
    """
    for path in (folder / "models", folder):
        if (path / "models_info.json").is_file():
            return path
    what = "has no models/models_info.json" if folder.is_dir() else "is no folder"
    raise UserError(f"{folder} {what}", HINT)


def read_objects(folder: Path) -> list[Mesh]:
    """Read the objects of a folder, in order of their numbers.

    Raises:
        UserError: a file is missing or cannot be read, or an object is too small or too large.
    """
    models = numbered_models(models_folder(folder))
    if not models:
        raise UserError(f"{models_folder(folder) / 'models_info.json'} has no objects", HINT)
    read_set(folder, {number: model.info for number, model in models.items()})
    for model in models.values():
        _ = model.symmetries  # an error of theirs would come after days of rendering
    return [_read(model.path, number) for number, model in sorted(models.items())]


def digest(folder: Path) -> str:
    """A checksum of all files that `objects_files` names."""
    total = hashlib.sha256()
    for name, path in objects_files(folder).items():
        total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def objects_files(folder: Path) -> dict[str, Path]:
    """The files of an object set that a dataset has as well, by their names in it."""
    models = models_folder(folder)
    files = {f"models/{p.name}": p for p in sorted(models.iterdir()) if p.is_file()}
    if (table := folder / "objects.json").is_file():
        files["objects.json"] = table
    return files


def _read(path: Path, number: int) -> Mesh:
    mesh = load_model(path)
    with path.open("rb") as file:  # trimesh draws what has no image in grey
        named = re.search(rb"^comment TextureFile\s+(.*\S)", file.read(4000), re.M)
    if named and not (picture := path.with_name(named[1].decode())).is_file():
        raise UserError(f"{path}: no texture {picture.name}", "add it beside the mesh")
    vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    texture, uv, colours = None, None, None
    visual = mesh.visual
    if visual.kind == "texture" and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is not None:
            uv = np.asarray(visual.uv)
            texture = np.ascontiguousarray(image.convert("RGB"))
    elif visual.kind in ("vertex", "face"):
        colours = np.asarray(visual.vertex_colors)[:, :3] / 255
    made = make_mesh(vertices / 1000, faces, uv, colours, texture, number)
    side = float(np.ptp(vertices, axis=0).max()) / 1000
    if not SMALLEST <= side <= LARGEST:
        raise UserError(
            f"object {number} is {side:.3g} m large: scenes have objects of "
            f"{SMALLEST:g} to {LARGEST:g} m",
            f"are the lengths in {path.name} millimetres? ffreid objects --unit mm|m sets the unit",
        )
    return made


def make_mesh(
    vertices: npt.NDArray[np.floating],
    faces: npt.NDArray[np.integer],
    uv: npt.NDArray[np.floating] | None = None,
    colours: npt.NDArray[np.floating] | None = None,
    texture: Picture | None = None,
    number: int = 0,
) -> Mesh:
    """Make a mesh that is smooth but for edges at which a vertex's normal is 40 degrees off."""
    vertices = np.asarray(vertices, np.float64)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30)
    _, same = np.unique(np.round(vertices, 7), axis=0, return_inverse=True)
    total = np.zeros((same.max() + 1, 3))
    for corner in range(3):
        a, b = (corners[:, (corner + i) % 3] - corners[:, corner] for i in (1, 2))
        angles = np.arctan2(np.linalg.norm(across, axis=1), (a * b).sum(-1))
        np.add.at(total, same.reshape(-1)[faces[:, corner]], flat * angles[:, None])
    smooth = (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30))[
        same.reshape(-1)
    ]
    normals = smooth[faces]
    sharp = (normals * flat[:, None]).sum(-1) < _SHARP
    normals[sharp] = np.broadcast_to(flat[:, None], normals.shape)[sharp]
    # A vertex of its own for each face at which the edge is sharp.
    key = np.where(sharp, len(vertices) + np.arange(faces.size).reshape(faces.shape), faces)
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    source = faces.reshape(-1)[first]
    uv = np.zeros((len(vertices), 2)) if uv is None else uv
    grey = 1.0 if texture is not None else 0.75
    colours = np.full((len(vertices), 3), grey) if colours is None else colours
    return Mesh(
        vertices=vertices[source].astype(np.float32),
        normals=normals.reshape(-1, 3)[first].astype(np.float32),
        faces=index.reshape(-1, 3).astype(np.int32),
        uv=np.asarray(uv[source], np.float32),
        colours=np.asarray(colours[source], np.float32),
        texture=texture,
        number=number,
    )


def solids() -> dict[str, Mesh]:
    """Solids of size 1 around the origin, with texture coordinates, for distractors."""
    from trimesh import creation

    made = {
        "ball": creation.icosphere(3, 0.5),
        "can": creation.cylinder(0.5, 1.0, sections=40),
        "cone": creation.cone(0.5, 1.0, sections=40),
        "ring": creation.torus(0.36, 0.14, 24, 12),
        "capsule": creation.capsule(0.5, 0.25, count=[20, 20]),
    }
    result = {"box": _box(), "plane": _plane()}
    for name, mesh in made.items():
        vertices = np.asarray(mesh.vertices) - np.asarray(mesh.bounds).mean(axis=0)
        angle = np.arctan2(vertices[:, 1], vertices[:, 0]) / np.pi
        uv = np.column_stack([np.abs(angle), vertices[:, 2]])  # mirrored: no seam
        white = np.ones((len(vertices), 3))
        result[name] = make_mesh(vertices, np.asarray(mesh.faces), uv, white)
    return result


def _plane() -> Mesh:
    """The square of side 1 whose normal is z."""
    vertices = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return make_mesh(vertices, faces, vertices[:, :2] + 0.5, np.ones((4, 3)))


def _box() -> Mesh:
    """The cube of side 1, the texture on every side."""
    square, turns = _plane(), ([0, 0], [0, 2], [0, 1], [0, -1], [1, 1], [1, -1])
    vertices, faces = list[Any](), list[Any]()
    for axis, quarter in turns:
        angle = quarter * np.pi / 2
        c, s = round(np.cos(angle)), round(np.sin(angle))
        turn = (
            [[1, 0, 0], [0, c, -s], [0, s, c]] if axis == 0 else [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        )
        vertices.append((square.vertices + np.array([0, 0, 0.5])) @ np.array(turn).T)
        faces.append(square.faces + 4 * len(faces))
    return make_mesh(
        np.concatenate(vertices),
        np.concatenate(faces),
        np.tile(square.uv, (6, 1)),
        np.ones((24, 3)),
    )
