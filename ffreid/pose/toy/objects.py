"""The toy objects: two or three solids each, 9 … 20 cm long, with unlike colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffreid.errors import UserError
from ffreid.pose.toy.render import Texture
from ffreid.pose.toy.shapes import (
    Box,
    Convex,
    Ellipsoid,
    Floats,
    Frustum,
    Shape,
    Union,
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ToyObject:
    """One toy object; a symmetric one looks the same after turns about its z axis."""

    name: str
    shape: Shape
    texture: Texture
    symmetric: bool = False


def toy_objects(cls: str = "") -> tuple[ToyObject, ...]:
    """The toy objects, always the same, or `cls` alone; class id c is entry c - 1.

    They stand with z upwards. The bottle is symmetric; the parts of the others have unlike colours.

    Raises:
        UserError: there is no object `cls`.
    """
    assembled: dict[str, tuple[tuple[Convex, tuple[float, float, float], Colour], ...]] = {
        "truck": (
            (Box((0.052, 0.042, 0.022)), (0, 0, 0.022), (0.1, 0.55, 0.2)),
            (Box((0.024, 0.04, 0.046)), (0.074, 0, 0.046), (0.85, 0.1, 0.1)),
            (Frustum(0.036, 0.028, 0.026), (-0.014, 0, 0.07), (0.9, 0.9, 0.85)),
        ),
        "watering_can": (
            (Frustum(0.05, 0.042, 0.05), (0, 0, 0.05), (0.1, 0.25, 0.85)),
            (Box((0.038, 0.014, 0.014)), (0.078, 0, 0.068), (0.95, 0.8, 0.1)),
            (Ellipsoid((0.026, 0.016, 0.032)), (-0.06, 0, 0.058), (0.95, 0.4, 0.7)),
        ),
        "duck": (
            (Ellipsoid((0.07, 0.048, 0.04)), (0, 0, 0.04), (0.55, 0.3, 0.1)),
            (Ellipsoid((0.036, 0.034, 0.034)), (0.048, 0, 0.094), (0.0, 0.85, 0.6)),
            (Box((0.022, 0.018, 0.01)), (0.092, 0, 0.092), (1.0, 0.5, 0.05)),
        ),
        "camera": (
            (Box((0.07, 0.034, 0.044)), (0, 0, 0.044), (0.15, 0.12, 0.15)),
            (Ellipsoid((0.034, 0.034, 0.034)), (0.02, -0.042, 0.044), (0.4, 0.8, 0.95)),
            (Box((0.018, 0.018, 0.016)), (-0.042, 0, 0.104), (0.7, 0.95, 0.2)),
        ),
    }
    objects = []
    for name, parts in assembled.items():
        shape = Union.centred(*(part[:2] for part in parts))
        textures = [sided(colour, solid.half_extents) for solid, _, colour in parts]
        objects.append(ToyObject(name, shape, by_part(shape, textures)))
    bottle = Union.centred(
        (Frustum(0.046, 0.046, 0.046), (0, 0, 0.046)), (Frustum(0.038, 0.018, 0.03), (0, 0, 0.122))
    )
    colours = [uniform((0.5, 0.15, 0.75)), uniform((0.8, 0.65, 0.95))]
    objects.append(ToyObject("bottle", bottle, by_part(bottle, colours), symmetric=True))
    found = tuple(item for item in objects if cls in ("", item.name))
    if not found:
        names = ", ".join(item.name for item in objects)
        raise UserError(f"toy-pose has no object {cls!r}", f"use --cls NAME, one of: {names}")
    return found


def by_part(shape: Union, textures: Sequence[Texture]) -> Texture:
    """Texture of a union from those of its parts, which get points in their parts' frames."""

    def texture(points: Floats) -> Floats:
        owner, colour = shape.part_of(points), np.zeros_like(points)
        for index, (part, own) in enumerate(zip(shape.parts, textures, strict=True)):
            mask = owner == index
            colour[mask] = own(points[mask] - part.centre)
        return colour

    return texture


def sided(colour: Colour, half_extents: Floats) -> Texture:
    """Texture of an RGB colour, 0 … 1, that is redder at x, greener at y and bluer at z."""

    def texture(points: Floats) -> Floats:
        shaded: Floats = 0.15 + 0.7 * np.asarray(colour) + 0.2 * points / half_extents
        return shaded

    return texture


def uniform(colour: Sequence[float]) -> Texture:
    """Texture of one RGB colour, 0 … 1."""
    return lambda points: np.broadcast_to(np.asarray(colour, np.float64), points.shape)


def marble(colour: Sequence[float], generator: np.random.Generator) -> Texture:
    """Texture of long, irregular waves in one RGB colour, 0 … 1."""
    waves = generator.normal(size=(5, 3)) * np.array([[8], [15], [25], [45], [80]])
    phases = generator.uniform(0, 2 * np.pi, 5)

    def texture(points: Floats) -> Floats:
        brightness = 1 + 0.07 * np.sin(points @ waves.T + phases).sum(-1)
        shaded: Floats = np.asarray(colour, np.float64) * brightness[:, None]
        return shaded

    return texture
