"""Specs of FFB6D's tensors; `Inputs` and `Outputs` describe the same."""

import torch

from ffreid.engine.specs import Size, Symbol, TensorSpec
from ffreid.pose.data.batch import LEVELS
from ffreid.pose.data.pyramid import NEIGHBOURS, STRIDES_DOWN, STRIDES_UP

COUNTS = dict.fromkeys(LEVELS, 4) | {"pixels_up": 3, "points_up": 3}
"""Tensors of each field of `Inputs` that has one per level: ``neighbours_0``, …"""

_SYMBOLS = {
    "B": Symbol(meaning="frames"),
    "H": Symbol(meaning="rows of the image", least=8, multiple_of=8),
    "W": Symbol(meaning="columns of the image", least=8, multiple_of=8),
    "N": Symbol(meaning="points of a frame, drawn from its pixels", least=64 * NEIGHBOURS),
}


def inputs(dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Inputs of FFB6D, in the order of `Inputs`; images and features have `dtype`."""
    colours = _spec(
        "rgb", ("B", 3, "H", "W"), dtype, "0 … 255", "RGB image, not normalised", (0, 256)
    )
    features = _spec(
        "features",
        ("B", 9, "N"),
        dtype,
        "m, 0 … 255, 1",
        "x y z in the camera's frame, r g b, and the surface's normal of each point; the "
        "first N // 4^i of the points, in random order, are those of level i",
    )
    indices = [_index("choose", ("N",), "H * W", "pixel of each point: row * W + column")]
    k, pixels = NEIGHBOURS, "pixels, row by row, of the grid of rows and columns 0, {0}, 2 x {0} …"
    for i in range(4):
        meaning = f"the {k} nearest points of level {i} to each of them, itself first"
        indices.append(_index(f"neighbours_{i}", (_points(i), k), _points(i), meaning))
    for i in range(4):
        meaning = f"the nearest point of level {i + 1} to each of level {i}"
        indices.append(_index(f"nearest_kept_{i}", (_points(i), 1), _points(i + 1), meaning))
    ways = {
        "down": [(i + 1, stride) for i, stride in enumerate(STRIDES_DOWN)],
        "up": [(3 - i, stride) for i, stride in enumerate(STRIDES_UP)],
    }
    for way, levels in ways.items():
        for i, (level, stride) in enumerate(levels):
            meaning = f"the {k} nearest {pixels.format(stride)} to each point of level {level}"
            shape, bound = (_points(level), k), _pixels(stride)
            indices.append(_index(f"pixels_{way}_{i}", shape, bound, meaning))
        for i, (level, stride) in enumerate(levels):
            meaning = f"the nearest point of level {level} to each of the {pixels.format(stride)}"
            shape, bound = (_pixels(stride), 1), _points(level)
            indices.append(_index(f"points_{way}_{i}", shape, bound, meaning))
    return (colours, features, *indices)


def outputs(classes: int, keypoints: int, dtype: torch.dtype) -> tuple[TensorSpec, ...]:
    """Outputs of the three heads, per point."""
    names = "logits of the classes; 0 is the background, c the object objects.names[c - 1]"
    keypoint, centre = "point minus its keypoint", "point minus its object's centre"
    return (
        _spec("segmentation", ("B", classes, "N"), dtype, "1", names),
        _spec("keypoint_offsets", ("B", keypoints, "N", 3), dtype, "m", keypoint),
        _spec("centre_offsets", ("B", 1, "N", 3), dtype, "m", centre),
    )


def _points(level: int) -> str:
    return f"N // {4**level}" if level else "N"


def _pixels(stride: int) -> str:
    return f"H * W // {stride**2}"


def _index(name: str, shape: tuple[Size, ...], bound: str, meaning: str) -> TensorSpec:
    """Indices of shape (B, *shape) below `bound`."""
    return _spec(name, ("B", *shape), torch.int64, "index", meaning, (0, bound))


def _spec(
    name: str,
    shape: tuple[Size, ...],
    dtype: torch.dtype,
    unit: str,
    meaning: str,
    range: tuple[int, Size] | None = None,
) -> TensorSpec:
    words = " ".join(map(str, (*shape, *(range or ())))).split()
    return TensorSpec(
        name=name,
        shape=shape,
        dtype=dtype,
        unit=unit,
        meaning=meaning,
        range=range,
        symbols={name: symbol for name, symbol in _SYMBOLS.items() if name in words},
    )
