"""Appearance of synthetic persons: body, clothes, camera and capture."""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]

HAIR: tuple[Colour, ...] = (
    (0.07, 0.06, 0.06),
    (0.36, 0.2, 0.1),
    (0.88, 0.72, 0.36),
    (0.66, 0.24, 0.1),
    (0.75, 0.75, 0.76),
)
CUTS = ("bald", "short", "bob", "long", "round", "bun")

Floats = npt.NDArray[np.float64]
Pattern = Callable[[Floats, Floats, float], Floats]


def _wave(place: Floats, repeats: float) -> Floats:
    wave: Floats = 0.5 + 2 * np.cos(2 * math.pi * repeats * place)
    return wave


# Darkness of a top (clipped to 0 … 1) at positions in torso lengths, to the right of its centre and
# below the shoulders, for a number of repeats per torso length.
PATTERNS: dict[str, Pattern] = {
    "plain": lambda across, down, repeats: np.zeros_like(across),
    "rings": lambda across, down, repeats: _wave(down, repeats),
    "bars": lambda across, down, repeats: _wave(across, repeats),
    "slanted": lambda across, down, repeats: _wave(across + down, 0.75 * repeats),
    "dots": lambda across, down, repeats: _wave(across, repeats) + _wave(down, repeats) - 2.3,
    "checks": lambda across, down, repeats: (
        0.5 + (_wave(across, 0.6 * repeats) - 0.5) * (_wave(down, 0.6 * repeats) - 0.5)
    ),
    "band": lambda across, down, repeats: 2.5 - 16 * np.abs(down - 0.1 * repeats),
}
# Square roots of primes: their multiples are spread evenly, so no two persons look alike.
STEPS = np.sqrt([2.0, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41])


@dataclass(frozen=True, kw_only=True)
class Body:
    """A person's constant appearance. Lengths are relative to the person's height.

    `height` is relative to the image's; `shoulders`, `hips` (relative to `shoulders`) and `thigh`
    are half widths; `sleeves` and `hems` covered fractions of arms and legs; `cut` is in `CUTS`,
    `pattern` in `PATTERNS` with `repeats` per torso length.
    """

    height: float
    shoulders: float
    hips: float
    legs: float
    head: float
    thigh: float
    sleeves: float
    hems: float
    skin: Colour
    hair: Colour
    cut: str
    pattern: str
    repeats: float


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """Colours of clothes, RGB 0 … 1, perhaps with a bag."""

    top: Colour
    bottom: Colour
    shoes: Colour
    bag: Colour | None


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Appearance of a camera's images.

    `gains` are factors of the colours; `horizon`, between `wall` and `floor`, is relative to the
    image's height, `door`, the left edge of a darker area, to its width; `scale` is of persons;
    `turn` goes from 0, persons seen from the front or back, to 1, from the side.
    """

    gains: Colour
    wall: Colour
    floor: Colour
    horizon: float
    door: float
    scale: float
    turn: float


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Gait phase (radians), walking direction (-1 left, 1 right) and crop of an image."""

    phase: float
    heading: int
    x: float
    y: float
    scale: float


def make_body(seed: int, identity: int) -> Body:
    """The body of a person."""
    share = (np.random.default_rng([seed, 0]).random(len(STEPS)) + (identity + 1) * STEPS) % 1
    skin = mix((0.97, 0.8, 0.66), (0.34, 0.21, 0.14), share[6])
    return Body(
        height=0.76 + 0.16 * share[0],
        shoulders=0.085 + 0.065 * share[1],
        hips=0.6 + 0.5 * share[2],
        legs=0.4 + 0.14 * share[3],
        head=0.055 + 0.022 * share[4],
        thigh=0.026 + 0.024 * share[5],
        sleeves=(0.15, 0.5, 1.0)[int(3 * share[7])],
        hems=(0.3, 0.55, 1.0)[int(3 * share[8])],
        skin=skin,
        hair=HAIR[int(len(HAIR) * share[9])],
        cut=CUTS[int(len(CUTS) * share[10])],
        pattern=list(PATTERNS)[int(len(PATTERNS) * share[11])],
        repeats=2.0 + 2.5 * share[12],
    )


def make_clothes(seed: int, identity: int, clothes: int) -> Clothes:
    """A person's clothes of a number, from 0; both colours differ clearly between them."""
    top, bottom = np.random.default_rng([seed, 1, identity]).random(2)
    generator = np.random.default_rng([seed, 1, identity, clothes + 1])
    turn = 0.382 * clothes
    tops, bottoms, bags = generator.uniform(0, 1, (3, 3))
    return Clothes(
        top=_hsv(top + turn + 0.08 * tops[0], 0.45 + 0.55 * tops[1], 0.6 + 0.4 * tops[2]),
        bottom=_hsv(bottom - turn, 0.25 + 0.75 * bottoms[1], 0.3 + 0.6 * bottoms[2]),
        shoes=_hsv(0.6, 0.2, 0.1 + 0.8 * bottoms[0]),
        bag=_hsv(bags[0], 0.7, 0.25 + 0.6 * bags[1]) if bags[2] < 0.35 else None,
    )


def make_camera(seed: int, camera: int) -> Camera:
    """The camera of a number, from 0."""
    draw = np.random.default_rng([seed, 2, camera]).random(10)
    bright = 0.9 + 0.2 * draw[0]
    red, green, blue = bright * (0.93 + 0.14 * draw[1:4])
    return Camera(
        gains=(red, green, blue),
        wall=_hsv(draw[4], 0.08, 0.5 + 0.12 * draw[5]),
        floor=_hsv(draw[6], 0.12, 0.36 + 0.1 * draw[7]),
        horizon=0.5 + 0.3 * draw[8],
        door=draw[9] * 1.2 - 0.2,
        scale=0.9 + 0.1 * draw[5],
        turn=(0.15 + 0.382 * camera) % 1,
    )


def random_capture(generator: np.random.Generator) -> Capture:
    """A random capture: the first of a walk, or of a single image."""
    phase, x, y, scale = generator.random(4)
    return Capture(
        phase=2 * math.pi * phase,
        heading=1 if generator.random() < 0.5 else -1,
        x=0.05 * (2 * x - 1),
        y=0.025 * (2 * y - 1),
        scale=0.95 + 0.1 * scale,
    )


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolate from the first colour to the second by `share`."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)
