"""FFB6D's tensors by name, as data; `Inputs` and `Outputs` say the same in words."""

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
"""Tensors of each field of `Inputs` that has one a level: ``neighbours_0``, …"""

_SYMBOLS = {
    "B": Symbol(meaning="frames"),
    "H": Symbol(meaning="rows of the picture", least=8, multiple_of=8),
    "W": Symbol(meaning="columns of the picture", least=8, multiple_of=8),
    "N": Symbol(meaning="points of a frame, drawn from its pixels", least=64 * NEIGHBOURS),
}
_GRID = "pixels of the grid of rows and columns 0, {0}, 2 x {0} …, counted row by row"


def inputs(dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Give what FFB6D reads; pictures and features are of `dtype`."""
    colours = TensorSpec(
        name="rgb",
        shape=("B", 3, "H", "W"),
        dtype=dtype,
        unit="0 … 255",
        meaning="picture, RGB, not normalised",
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
    choose = _index("choose", ("B", "N"), "H * W", "pixel of each point: row * W + column")
    return (colours, features, choose, *_levels())


def _levels() -> list[TensorSpec]:
    """All neighbour indices, in the order of `Inputs`."""
    k, found = NEIGHBOURS, []
    for i in range(4):
        said = f"the {k} nearest points of level {i} to each of them, itself first"
        found.append(_index(f"neighbours_{i}", ("B", _points(i), k), _points(i), said))
    for i in range(4):
        said = f"the nearest point of level {i + 1} to each of level {i}"
        found.append(_index(f"nearest_kept_{i}", ("B", _points(i), 1), _points(i + 1), said))
    for i, stride in enumerate(STRIDES_DOWN):
        said = f"to each point of level {i + 1} its {k} nearest {_GRID.format(stride)}"
        shape = ("B", _points(i + 1), k)
        found.append(_index(f"pixels_down_{i}", shape, _pixels(stride), said))
    for i, stride in enumerate(STRIDES_DOWN):
        said = f"the nearest point of level {i + 1} to each of the {_GRID.format(stride)}"
        shape = ("B", _pixels(stride), 1)
        found.append(_index(f"points_down_{i}", shape, _points(i + 1), said))
    for i, stride in enumerate(STRIDES_UP):
        said = f"to each point of level {3 - i} its {k} nearest {_GRID.format(stride)}"
        shape = ("B", _points(3 - i), k)
        found.append(_index(f"pixels_up_{i}", shape, _pixels(stride), said))
    for i, stride in enumerate(STRIDES_UP):
        said = f"the nearest point of level {3 - i} to each of the {_GRID.format(stride)}"
        shape = ("B", _pixels(stride), 1)
        found.append(_index(f"points_up_{i}", shape, _points(3 - i), said))
    return found


def outputs(classes: int, keypoints: int, dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Give what the three heads say of each point."""
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
    words = " ".join(map(str, (*shape, bound))).split()
    return TensorSpec(
        name=name,
        shape=shape,
        dtype=torch.int64,
        unit="index",
        meaning=meaning,
        range=(0, bound),
        symbols=_symbols(*(name for name in _SYMBOLS if name in words)),
    )


def _symbols(*names: str) -> dict[str, Symbol]:
    return {name: _SYMBOLS[name] for name in names}
