"""Specs of FFB6D's tensors; `Inputs` and `Outputs` describe the same."""

import torch

from ffreid.engine.specs import Size, Symbol, TensorSpec
from ffreid.pose.data.pyramid import STRIDES_DOWN, STRIDES_UP

NEIGHBOURS = 16
"""k: neighbours of a point."""
COUNTS = {
    "neighbours": 4,
    "nearest_kept": 4,
    "pixels_down": 4,
    "points_down": 4,
    "pixels_up": 3,
    "points_up": 3,
}
"""Tensors of each field of `Inputs` that has one per level: ``neighbours_0``, …"""

_SYMBOLS = {
    "B": Symbol(meaning="frames"),
    "H": Symbol(meaning="rows of the image", least=8, multiple_of=8),
    "W": Symbol(meaning="columns of the image", least=8, multiple_of=8),
    "N": Symbol(meaning="points of a frame, drawn from its pixels", least=64 * NEIGHBOURS),
}


def inputs(dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Inputs of FFB6D; images and features have `dtype`."""
    colours = TensorSpec(
        name="rgb",
        shape=("B", 3, "H", "W"),
        dtype=dtype,
        unit="0 … 255",
        meaning="RGB image, not normalised",
        range=(0, 256),
        symbols=_symbols("B", "H", "W"),
    )
    features = TensorSpec(
        name="features",
        shape=("B", 9, "N"),
        dtype=dtype,
        unit="m, 0 … 255, 1",
        meaning="x y z in the camera's frame, r g b, and the surface's normal of each point; the "
        "first N // 4^i of the points, in random order, are those of level i",
        symbols=_symbols("B", "N"),
    )
    choose = _index("choose", ("N",), "H * W", "pixel of each point: row * W + column")
    return (colours, features, choose, *_levels())


def _levels() -> list[TensorSpec]:
    """All neighbour indices, in the order of `Inputs`."""
    k, pixels = NEIGHBOURS, "pixels, row by row, of the grid of rows and columns 0, {0}, 2 x {0} …"
    specs = []
    for i in range(4):
        meaning = f"the {k} nearest points of level {i} to each of them, itself first"
        specs.append(_index(f"neighbours_{i}", (_points(i), k), _points(i), meaning))
    for i in range(4):
        meaning = f"the nearest point of level {i + 1} to each of level {i}"
        specs.append(_index(f"nearest_kept_{i}", (_points(i), 1), _points(i + 1), meaning))
    ways = {
        "down": [(i + 1, stride) for i, stride in enumerate(STRIDES_DOWN)],
        "up": [(3 - i, stride) for i, stride in enumerate(STRIDES_UP)],
    }
    for way, levels in ways.items():
        for i, (level, stride) in enumerate(levels):
            meaning = f"the {k} nearest {pixels.format(stride)} to each point of level {level}"
            bound = _pixels(stride)
            specs.append(_index(f"pixels_{way}_{i}", (_points(level), k), bound, meaning))
        for i, (level, stride) in enumerate(levels):
            meaning = f"the nearest point of level {level} to each of the {pixels.format(stride)}"
            bound = _points(level)
            specs.append(_index(f"points_{way}_{i}", (_pixels(stride), 1), bound, meaning))
    return specs


def outputs(classes: int, keypoints: int, dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Outputs of the three heads, per point."""
    symbols = _symbols("B", "N")

    def head(name: str, shape: tuple[Size, ...], unit: str, meaning: str) -> TensorSpec:
        return TensorSpec(
            name=name, shape=shape, dtype=dtype, unit=unit, meaning=meaning, symbols=symbols
        )

    return (
        head(
            "segmentation",
            ("B", classes, "N"),
            "1",
            "logits of the classes; 0 is the background, c the object objects.names[c - 1]",
        ),
        head("keypoint_offsets", ("B", keypoints, "N", 3), "m", "point minus its keypoint"),
        head("centre_offsets", ("B", 1, "N", 3), "m", "point minus its object's centre"),
    )


def _points(level: int) -> str:
    return f"N // {4**level}" if level else "N"


def _pixels(stride: int) -> str:
    return f"H * W // {stride**2}"


def _index(name: str, shape: tuple[Size, ...], bound: str, meaning: str) -> TensorSpec:
    """Indices of shape (B, *shape) below `bound`."""
    words = " ".join(map(str, ("B", *shape, bound))).split()
    return TensorSpec(
        name=name,
        shape=("B", *shape),
        dtype=torch.int64,
        unit="index",
        meaning=meaning,
        range=(0, bound),
        symbols=_symbols(*(symbol for symbol in _SYMBOLS if symbol in words)),
    )


def _symbols(*names: str) -> dict[str, Symbol]:
    return {name: _SYMBOLS[name] for name in names}
