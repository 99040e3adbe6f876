"""Procedural textures of tables, walls and distractors."""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.floating]

SIZE, COUNT = 256, 98
"""Of textures, pixels; and how many there are."""


class Textures:
    """Textures (H, W, 3) of every kind by number, drawn when they are used; they repeat."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.drawn: dict[int, Picture] = {}

    def __getitem__(self, number: int) -> Picture:
        if number not in self.drawn:
            kinds = list(KINDS.values())
            rng = np.random.default_rng([self.seed, number])
            self.drawn[number] = _picture(kinds[number % len(kinds)], rng)
        return self.drawn[number]


def _picture(kind: Callable[[np.random.Generator], _Floats], rng: np.random.Generator) -> Picture:
    """Colour a pattern with values of 0 … 1 by three colours, and add fine grain."""
    pattern = np.clip(kind(rng), 0, 1)
    colours = np.array([_colour(rng) for _ in range(3)])
    if rng.random() < 0.5:  # shades of one colour
        colours = colours[0] * rng.uniform(0.5, 1.2, (3, 1))
    places = np.linspace(0, 1, 3)
    channels = [np.interp(pattern, places, colours[:, channel]) for channel in range(3)]
    grain = 1 + rng.uniform(0, 0.06) * rng.standard_normal((SIZE, SIZE, 1), np.float32)
    picture: Picture = np.clip(np.stack(channels, axis=-1) * grain * 255, 0, 255).astype(np.uint8)
    return picture


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Mostly muted, as tables and walls are."""
    saturation = rng.uniform(0, 0.3) if rng.random() < 0.65 else rng.uniform(0.3, 1)
    return colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.12, 1))


def _clouds(rng: np.random.Generator, first: int = 2) -> _Floats:
    """Noise of several octaves."""
    total = np.zeros((SIZE, SIZE), np.float32)
    weight, cells = 1.0, int(rng.integers(first, first + 4))
    fading = rng.uniform(0.4, 0.75)
    while cells < SIZE:
        noise = rng.random((cells, cells), np.float32) - np.float32(0.5)
        total += weight * cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * fading, cells * 2
    return np.asarray(0.5 + 0.5 * total / max(float(np.abs(total).max()), 1e-6))


def _turned(rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Two axes (H, W) at a random angle, in parts of the texture."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _plain(rng: np.random.Generator) -> _Floats:
    return np.asarray(0.5 + 0.1 * _clouds(rng))


def _checks(rng: np.random.Generator) -> _Floats:
    a, b = _turned(rng)
    count = rng.uniform(3, 16)
    return np.asarray((np.floor(a * count) + np.floor(b * count * rng.uniform(0.5, 2))) % 2)


def _stripes(rng: np.random.Generator) -> _Floats:
    a, _ = _turned(rng)
    waves = np.sin(a * rng.uniform(10, 120) + rng.uniform(0, 6) * _clouds(rng))
    return np.asarray(np.where(waves > rng.uniform(-0.5, 0.5), 1.0, 0.0))


def _wood(rng: np.random.Generator) -> _Floats:
    a, b = _turned(rng)
    rings = a * rng.uniform(3, 12) + 0.4 * _clouds(rng) + 0.3 * np.sin(b * 3)
    fine = cv2.blur(rng.random((SIZE, SIZE), np.float32), (1, 31))
    return np.asarray(1.4 * np.abs(rings % 1 - 0.5) + 0.6 * (fine - 0.25))


def _spots(rng: np.random.Generator) -> _Floats:
    return np.asarray(1 / (1 + np.exp(-rng.uniform(10, 60) * (_clouds(rng, 6) - 0.5))))


def _print(rng: np.random.Generator) -> _Floats:
    """Rectangles, circles and letters, as on packages."""
    page = np.full((SIZE, SIZE), rng.integers(256), np.uint8)
    for _ in range(rng.integers(6, 25)):
        x, y, w, h = (int(v) for v in rng.integers(0, SIZE, 4))
        value, kind = int(rng.integers(256)), rng.integers(3)
        if kind == 0:
            cv2.rectangle(page, (x, y), (x + w // 3, y + h // 3), value, -1)
        elif kind == 1:
            cv2.circle(page, (x, y), w // 6 + 2, value, -1)
        else:
            text = "".join(chr(c) for c in rng.integers(65, 91, 5))
            cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4 + h / 150, value, 2)
    return page / 255


KINDS: dict[str, Callable[[np.random.Generator], _Floats]] = {
    "clouds": _clouds,
    "plain": _plain,
    "checks": _checks,
    "stripes": _stripes,
    "wood": _wood,
    "spots": _spots,
    "print": _print,
}
