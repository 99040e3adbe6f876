"""Reading people's meshes: PLY, OBJ, STL, glTF; their unit, and what cannot be used."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffreid import files
from ffreid.errors import UserError, flat
from ffreid.pose.object_set.surface import Colours, Floats, Surface, diameter

SUFFIXES = (".ply", ".obj", ".stl", ".gltf", ".glb")
FORMATS = f"use a mesh as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
UNITS = {"m": 1.0, "mm": 0.001}
PLAUSIBLE = {"m": (0.01, 2.0), "mm": (60.0, 2000.0)}
"""Diameters of objects in files of each unit; 10 to 60 may be millimetres or centimetres."""
FARTHEST = 100
"""Of the origin from an object's middle, diameters: single precision must hold its shape."""
LARGEST_FACES, LARGEST_FILE = 1_000_000, 150 * 10**6
SIMPLIFY = (
    f"simplify it to at most {LARGEST_FACES:,} faces, e.g. in MeshLab with Quadric Edge Collapse "
    "Decimation; 20,000 are enough"
)
_TILE = 8


@dataclass(frozen=True)
class MeshFile:
    """A mesh in metres, its diameter, the unit of its file, and notes."""

    path: Path
    surface: Surface
    diameter: float
    unit: str
    notes: tuple[str, ...]


def import_trimesh() -> Any:
    """Import the package that reads meshes."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(
            f"reading meshes needs another package: {error}", "pip install 'ffreid[bop]'"
        ) from error
    return trimesh


def check_mesh_file(path: Path) -> None:
    """Refuse what cannot be a mesh, without reading it."""
    files.check_file(path, "mesh", FORMATS)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: {path.suffix or 'no suffix'} is not a known format", FORMATS)
    if not path.stat().st_size:
        raise UserError(f"{path} is empty", FORMATS)
    if path.stat().st_size > LARGEST_FILE:
        size = path.stat().st_size / 1e6
        raise UserError(f"{path} is too large to read: {size:.0f} MB", SIMPLIFY)


def read_mesh_file(path: Path, unit: str | None = None) -> MeshFile:
    """Read a mesh and find its unit; `unit` is known, m or mm.

    Raises:
        UserError: the file is no mesh with faces, too large, damaged, or of unknown unit.
    """
    check_mesh_file(path)
    notes: list[str] = []
    try:
        surface = _read(path, notes)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"reading {path} needs another package: {error}", f"pip install {error.name}"
        ) from error
    except Exception as error:  # trimesh and what it uses raise errors of many kinds
        raise UserError(
            f"cannot read {path}: {flat(str(error)) or repr(error)}", FORMATS
        ) from error
    _check(path, surface)
    size = diameter(surface.vertices)
    away = float(np.linalg.norm(surface.vertices.mean(axis=0)))
    if away > FARTHEST * size:
        raise UserError(
            f"{path}: its origin is {away / size:.0f} diameters from its middle",
            "move the mesh to the origin, e.g. in Blender with Set Origin",
        )
    if not size > 0:
        raise UserError(f"{path}: all vertices are in one place", "use a mesh of an object")
    found = _unit(path, size, unit)
    surface = replace(surface, vertices=surface.vertices * UNITS[found])
    if open_edges := _open_edges(surface):
        notes.append(
            f"open surface, {open_edges} edges of only one face: holes are seen through in renders"
        )
    return MeshFile(path, surface, size * UNITS[found], found, tuple(notes))


def _read(path: Path, notes: list[str]) -> Surface:
    trimesh = import_trimesh()
    loaded = trimesh.load(path, process=False)
    parts = loaded.dump(concatenate=False) if isinstance(loaded, trimesh.Scene) else [loaded]
    parts = [part for part in parts if len(getattr(part, "faces", ()))]
    if not parts:
        raise UserError(
            f"{path} has no faces",
            "reconstruct the surface of a cloud of points, e.g. in MeshLab with Screened Poisson",
        )
    faces = sum(len(part.faces) for part in parts)
    if faces > LARGEST_FACES:
        raise UserError(f"{path} is too large: {faces:,} faces", SIMPLIFY)
    if faces < (stated := _stated_faces(path)):
        raise UserError(
            f"{path} ends early: it has {faces:,} of {stated:,} faces", "export the mesh again"
        )
    for part in parts:
        if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
            raise UserError(
                f"{path}: a face has a vertex that is not there", "export the mesh again"
            )
        part.remove_unreferenced_vertices()
    surfaces = [_surface(part, path, notes) for part in parts]
    return surfaces[0] if len(surfaces) == 1 else _joined(surfaces, path, notes)


def _stated_faces(path: Path) -> int:
    """The number of faces in the header of a PLY file; trimesh does not count those of text."""
    with path.open("rb") as file:
        found = re.search(rb"^element face (\d+)", file.read(10_000), re.M)
    return int(found[1]) if found and path.suffix.lower() == ".ply" else 0


def _surface(part: Any, path: Path, notes: list[str]) -> Surface:
    visual = part.visual
    shape = Surface(
        vertices=np.array(part.vertices, np.float64), faces=np.array(part.faces, np.int64)
    )
    if visual.kind == "texture":
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        uv = None if visual.uv is None else np.array(visual.uv, np.float64)
        if image is not None and image.mode[0] in "IF":  # which convert would clip
            raise UserError(
                f"{path}: its texture has more than 8 bits a channel",
                "save the texture with 8 bits",
            )
        texture = None if image is None else np.array(image.convert("RGB"), np.uint8)
        if texture is not None and uv is not None and np.isfinite(uv).all() and texture.size > 12:
            return replace(shape, uv=uv, texture=texture)
        if uv is not None:  # trimesh has an image of one colour where the file's is not there
            notes.append("the image of its texture is not there, or of one colour")
        colour = np.array(material.main_color[:3], np.uint8)
        return replace(shape, colours=np.tile(colour, (len(shape.vertices), 1)))
    if visual.kind == "face":
        corners = shape.faces.ravel()
        return Surface(
            vertices=shape.vertices[corners],
            faces=np.arange(len(corners)).reshape(-1, 3),
            colours=np.repeat(np.array(visual.face_colors[:, :3], np.uint8), 3, axis=0),
        )
    if visual.kind == "vertex":
        return replace(shape, colours=np.array(visual.vertex_colors[:, :3], np.uint8))
    return shape


def _joined(surfaces: list[Surface], path: Path, notes: list[str]) -> Surface:
    """One mesh of several parts: their textures one above the other, else colours."""
    starts = np.cumsum([0, *(len(s.vertices) for s in surfaces)])
    joined = Surface(
        vertices=np.concatenate([s.vertices for s in surfaces]),
        faces=np.concatenate([s.faces + n for s, n in zip(surfaces, starts, strict=False)]),
    )
    if not any(s.is_coloured for s in surfaces):
        return joined
    if not any(s.texture is not None for s in surfaces):
        return replace(joined, colours=np.concatenate([_colours(s) for s in surfaces]))
    tiles, places, repeated = list[Colours](), list[Floats](), False
    for surface in surfaces:
        if surface.texture is not None and surface.uv is not None:
            tiles.append(surface.texture)
            places.append(surface.uv.clip(0, 1))
            repeated |= bool(np.abs(surface.uv - places[-1]).max() > 0.01)
        else:
            colours = _colours(surface)
            tiles.append(np.tile(colours.mean(axis=0).astype(np.uint8), (_TILE, _TILE, 1)))
            places.append(np.full((len(surface.vertices), 2), 0.5))
            if np.ptp(colours, axis=0).max() > 0:
                notes.append("colours of vertices beside a texture: their mean is used")
    if repeated:
        notes.append("a texture that is repeated, in a mesh of several: its edge is stretched")
    heights, width = [len(tile) for tile in tiles], max(tile.shape[1] for tile in tiles)
    atlas = np.zeros((sum(heights), width, 3), np.uint8)
    rows = np.cumsum([0, *heights])
    for tile, place, row in zip(tiles, places, rows, strict=False):
        atlas[row : row + len(tile), : tile.shape[1]] = tile
        place[:, 0] *= tile.shape[1] / width
        place[:, 1] = 1 - (row + (1 - place[:, 1]) * len(tile)) / len(atlas)
    return replace(joined, uv=np.concatenate(places), texture=atlas)


def _colours(surface: Surface) -> Colours:
    grey = np.full((len(surface.vertices), 3), 160, np.uint8)
    return grey if surface.colours is None else surface.colours


def _check(path: Path, surface: Surface) -> None:
    wrong = ~np.isfinite(surface.vertices).all(axis=1)
    if wrong.any():
        raise UserError(
            f"{path}: {wrong.sum()} vertices are not finite, the first is number "
            f"{int(wrong.argmax()) + 1}",
            "export the mesh again, without NaN and infinity",
        )
    spread = np.linalg.svd(surface.vertices - surface.vertices.mean(axis=0), compute_uv=False)
    if spread[1] <= 1e-3 * spread[0]:
        what = "in one place" if spread[0] == 0 else "on one line"
        raise UserError(f"{path}: all its vertices are {what}", "use a mesh of an object")


def _unit(path: Path, size: float, given: str | None) -> str:
    possible = [unit for unit, (least, largest) in PLAUSIBLE.items() if least <= size <= largest]
    if given is not None:
        metres = size * UNITS[given]
        if not 0.001 <= metres <= 5:
            others = [unit for unit in possible if unit != given]
            raise UserError(
                f"{path}: in {given} its diameter is {metres:.3g} m",
                f"use --unit {others[0]}" if others else "scale it to its true size",
            )
        return given
    if len(possible) != 1:
        raise UserError(
            f"{path}: its diameter is {size:.4g}, from which its unit cannot be told",
            "use --unit m or --unit mm; of a mesh in other units, scale it first",
        )
    return possible[0]


def _open_edges(surface: Surface) -> int:
    """Count the edges of one face only, where vertices in one place are one."""
    _, same = import_trimesh().grouping.unique_rows(surface.vertices, digits=7)
    faces = same[surface.faces]
    first, second = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    keys = np.minimum(first, second) * len(surface.vertices) + np.maximum(first, second)
    _, counts = np.unique(keys[first != second], return_counts=True)
    return int((counts == 1).sum())
