"""Tensors made up from what a spec says of them, and from nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffreid.engine.specs import TensorSpec


def smallest(specs: Sequence[TensorSpec], **chosen: int) -> dict[str, int]:
    """Give each symbol its least value, unless one is chosen."""
    symbols = {name: symbol for spec in specs for name, symbol in spec.symbols.items()}
    assert chosen.keys() <= symbols.keys()
    return {name: chosen.get(name, symbol.least) for name, symbol in symbols.items()}


def made(specs: Sequence[TensorSpec], sizes: dict[str, int], seed: int = 0) -> dict[str, Tensor]:
    """Draw a tensor for each spec, all of its range; without a range, from a normal."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for spec in specs:
        shape, bounds = spec.sizes(**sizes), spec.bounds(**sizes)
        if bounds is None:
            tensors[spec.name] = torch.randn(shape, generator=draw, dtype=spec.dtype)
        elif spec.dtype.is_floating_point:
            low, high = bounds
            drawn = torch.rand(shape, generator=draw, dtype=spec.dtype)
            tensors[spec.name] = low + (high - low) * drawn
        else:
            drawn = torch.randint(*bounds, shape, generator=draw)
            drawn.view(-1)[-1] = bounds[1] - 1  # the largest index counts most
            tensors[spec.name] = drawn.to(spec.dtype)
    return tensors


def as_told(specs: Sequence[TensorSpec], found: dict[str, Tensor], sizes: dict[str, int]) -> bool:
    """Whether tensors are what specs say: names in order, types, shapes; and finite."""
    told = [(spec.name, spec.dtype, spec.sizes(**sizes)) for spec in specs]
    seen = [(name, value.dtype, tuple(value.shape)) for name, value in found.items()]
    return told == seen and all(bool(value.isfinite().all()) for value in found.values())
