"""The toy objects: solids of 5 … 17 cm per side with textures that identify every side."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffreid.pose.toy.render import Texture
from ffreid.pose.toy.shapes import Box, Ellipsoid, Floats, Frustum, Shape, surface_points


@dataclass(frozen=True)
class ToyObject:
    """One toy object; a symmetric one looks the same after turns about its z axis."""

    name: str
    shape: Shape
    texture: Texture
    symmetric: bool = False


def toy_objects() -> tuple[ToyObject, ...]:
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
    bowl = Frustum(0.04, 0.07, 0.03)
    return (*objects, ToyObject("bowl", bowl, uniform((0.6, 0.3, 0.75)), symmetric=True))


def patchwork(shape: Shape, hue: float, generator: np.random.Generator) -> Texture:
    """Texture of irregular striped patches with colours around `hue` (0 … 1)."""
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
        # The patch of the nearest centre, with edges about a tenth of the object wide.
        nearness = 2 * relative @ centres.T - (centres**2).sum(-1)
        weights = np.exp(25 * (nearness - nearness.max(axis=-1, keepdims=True)))
        weights /= weights.sum(axis=-1, keepdims=True)
        brightness = (weights * (1 + 0.22 * np.sin(relative @ stripes.T))).sum(-1)
        colour: Floats = weights @ colours * brightness[:, None]
        return colour

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
