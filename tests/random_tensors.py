"""Random tensors from their specs alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffreid.engine.specs import TensorSpec


def smallest(specs: Sequence[TensorSpec], **chosen: int) -> dict[str, int]:
    """The minimum of each symbol, unless one is chosen."""
    symbols = {name: symbol for spec in specs for name, symbol in spec.symbols.items()}
    assert chosen.keys() <= symbols.keys()
    return {name: chosen.get(name, symbol.least) for name, symbol in symbols.items()}


def shape_of(spec: TensorSpec, sizes: dict[str, int]) -> tuple[int, ...]:
    """The shape in numbers."""
    return tuple(int(eval(str(size), {}, sizes)) for size in spec.shape)


def bounds_of(spec: TensorSpec, sizes: dict[str, int]) -> tuple[int, int] | None:
    """The range in numbers."""
    return spec.range and (spec.range[0], int(eval(str(spec.range[1]), {}, sizes)))


def random_tensors(
    specs: Sequence[TensorSpec], sizes: dict[str, int], seed: int = 0
) -> dict[str, Tensor]:
    """Draw a tensor for each spec, from its range or a normal distribution."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for spec in specs:
        shape, bounds = shape_of(spec, sizes), bounds_of(spec, sizes)
        if bounds is None:
            tensors[spec.name] = torch.randn(shape, generator=draw, dtype=spec.dtype)
        elif spec.dtype.is_floating_point:
            low, high = bounds
            values = torch.rand(shape, generator=draw, dtype=spec.dtype)
            tensors[spec.name] = low + (high - low) * values
        else:
            values = torch.randint(*bounds, shape, generator=draw)
            values.view(-1)[-1] = bounds[1] - 1  # the largest index counts most
            tensors[spec.name] = values.to(spec.dtype)
    return tensors


def match(specs: Sequence[TensorSpec], tensors: dict[str, Tensor], sizes: dict[str, int]) -> bool:
    """Whether names, order, types and shapes match the specs, and all values are finite."""
    expected = [(spec.name, spec.dtype, shape_of(spec, sizes)) for spec in specs]
    result = [(name, value.dtype, tuple(value.shape)) for name, value in tensors.items()]
    return expected == result and all(bool(value.isfinite().all()) for value in tensors.values())
