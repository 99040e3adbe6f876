"""A network's input and output tensors as data: names, shapes, types, units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffreid.errors import UserError

Size = int | str
"""A number, a symbol such as ``B``, or for people an expression of symbols, ``H * W // 4``."""


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A size that the caller chooses: `least` or more, a multiple of `multiple_of`."""

    meaning: str
    least: int = 1
    multiple_of: int = 1

    def __str__(self) -> str:
        return self.meaning


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output tensor.

    Attributes:
        shape: sizes, e.g. ``("B", 3, "H // 8", "W // 8")``.
        unit: of its values, e.g. ``m``; ``1`` for none.
        range: (minimum, bound) of its values v: ``minimum <= v < bound``; None if unbounded.
        symbols: those in shape and range.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype
    unit: str
    meaning: str
    range: tuple[int, Size] | None = None
    symbols: Mapping[str, Symbol]

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.name} ({sizes}) {dtype} [{self.unit}]: {self.meaning}"


def checked_inputs(
    specs: Sequence[TensorSpec],
    inputs: Mapping[str, Tensor] | None,
    keywords: Mapping[str, Tensor],
    device: torch.device,
) -> dict[str, Tensor]:
    """Merge inputs from a mapping and keywords; check all but values and expressions of sizes.

    Raises:
        UserError: a tensor is missing, unknown, or of another type, device, rank or size.
    """
    if inputs is not None and not isinstance(inputs, Mapping):
        raise UserError(
            f"forward received a {type(inputs).__name__}",
            f"pass the tensors by name: forward({specs[0].name}=…), or pass a dict",
        )
    tensors = {**(inputs or {}), **keywords}
    known = [spec.name for spec in specs]
    missing = [name for name in known if name not in tensors]
    unknown = [str(name) for name in tensors if name not in known]
    for problem, names in {"missing": missing, "unknown": unknown}.items():
        if names:
            raise UserError(
                f"{problem} input of forward: {', '.join(names)}",
                f"see input_spec(): it takes {', '.join(known)}",
            )
    sizes: dict[str, int] = {}
    for spec in specs:
        _check(spec, tensors[spec.name], device, sizes)
    return {name: tensors[name] for name in known}


def _check(spec: TensorSpec, tensor: object, device: torch.device, sizes: dict[str, int]) -> None:
    """Check one tensor against its spec and the `sizes` of symbols in earlier ones; add its own."""
    name, expected = spec.name, f"expected: {spec}"
    if not isinstance(tensor, Tensor):
        raise UserError(f"{name} is a {type(tensor).__name__}, not a tensor", expected)
    if tensor.dtype != spec.dtype:
        raise UserError(f"{name} has dtype {tensor.dtype}", expected)
    if tensor.device != device:
        raise UserError(
            f"{name} is on {tensor.device}, the network on {device}",
            f'use {name}.to("{device}"), or model.to("{tensor.device}")',
        )
    shape = tuple(tensor.shape)
    pairs = zip(spec.shape, shape, strict=False)
    if len(shape) != len(spec.shape) or any(isinstance(n, int) and n != size for n, size in pairs):
        raise UserError(f"{name} has shape {shape}", expected)
    for size, value in zip(spec.shape, shape, strict=True):
        if (symbol := spec.symbols.get(str(size))) is None:
            continue
        problem = f"{name}: {size} ({symbol.meaning}) is {value}"
        if value < symbol.least or value % symbol.multiple_of:
            multiple = f", a multiple of {symbol.multiple_of}" * (symbol.multiple_of > 1)
            raise UserError(problem, f"expected: {symbol.least} or more{multiple}")
        if value != (other := sizes.setdefault(str(size), value)):
            raise UserError(f"{problem}, in other inputs {other}", expected)
