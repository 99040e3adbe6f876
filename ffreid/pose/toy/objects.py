"""The toy objects: shapes of 5 … 17 cm a side and textures that look the same from no two sides."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffreid.pose.toy.render import Texture
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape, surface_points


def toy_objects() -> tuple["ToyObject", ...]:
    """The toy objects, always the same; class id c is entry c - 1. The bowl is symmetric."""
    textured: tuple[tuple[str, Shape, float], ...] = (
        ("tall_box", Box((0.03, 0.055, 0.085)), 0.0),
        ("can", Frustum(0.037, 0.037, 0.055), 0.6),
        ("egg", Ellipsoid((0.068, 0.048, 0.042)), 0.3),
        ("small_box", Box((0.055, 0.042, 0.027)), 0.12),
    )
    objects = [
        ToyObject(name, shape, patchwork(shape, hue, np.random.default_rng([11, index])))
        for index, (name, shape, hue) in enumerate(textured)
    ]
    bowl = ToyObject("bowl", Frustum(0.04, 0.07, 0.03), plain((0.6, 0.3, 0.75)), symmetric=True)
    return (*objects, bowl)


def patchwork(shape: Shape, hue: float, generator: np.random.Generator) -> Texture:
    """Make a texture of irregular striped patches around one hue, the same from no two sides.

    Args:
        shape: what it will cover.
        hue: 0 … 1, around the colour circle.
        generator: where patches, colours and stripes come from.
    """
    count = 16
    centres = surface_points(shape, count, generator) / shape.half_extents
    hues = hue + generator.uniform(-0.09, 0.09, count)
    shades = np.stack([generator.uniform(0.55, 1, count), generator.uniform(0.3, 1, count)], 1)
    shades[::5, 0] *= 0.15
    colours = np.array(
        [colorsys.hsv_to_rgb(h % 1, s, v) for h, (s, v) in zip(hues, shades, strict=True)]
    )
    stripes = generator.normal(size=(count, 3)) * 9

    def texture(points: Floats) -> Floats:
        relative = points / shape.half_extents
        # The nearest centre's patch, with edges about a tenth of the object wide.
        nearness = 2 * relative @ centres.T - (centres**2).sum(-1)
        weights = np.exp(25 * (nearness - nearness.max(axis=-1, keepdims=True)))
        weights /= weights.sum(axis=-1, keepdims=True)
        brightness = (weights * (1 + 0.22 * np.sin(relative @ stripes.T))).sum(-1)
        colour: Floats = weights @ colours * brightness[:, None]
        return colour

    return texture


def plain(colour: Sequence[float]) -> Texture:
    """Make a texture of one RGB colour, 0 … 1."""
    return lambda points: np.broadcast_to(np.asarray(colour, np.float64), points.shape)


def marble(colour: Sequence[float], generator: np.random.Generator) -> Texture:
    """Make a texture of long, irregular waves in one RGB colour, 0 … 1."""
    waves = generator.normal(size=(5, 3)) * np.array([[8], [15], [25], [45], [80]])
    phases = generator.uniform(0, 2 * np.pi, 5)

    def texture(points: Floats) -> Floats:
        brightness = 1 + 0.07 * np.sin(points @ waves.T + phases).sum(-1)
        shaded: Floats = np.asarray(colour, np.float64) * brightness[:, None]
        return shaded

    return texture


@dataclass(frozen=True)
class ToyObject:
    """One toy object.

    Attributes:
        name: its class name.
        shape: its surface, around its own origin.
        texture: its colours.
        symmetric: looks the same turned about its z axis.
    """

    name: str
    shape: Shape
    texture: Texture
    symmetric: bool = False
