"""What tensors a network takes and gives, as data: names, shapes in symbols, types, units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffreid.errors import UserError

Size = int | str
"""A number, or symbols and numbers with ``*`` and ``//`` between, from left to right."""


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A size that the caller chooses.

    Attributes:
        meaning: what it counts.
        least: its least value.
        multiple_of: what it must be a multiple of.
    """

    meaning: str
    least: int = 1
    multiple_of: int = 1

    def __str__(self) -> str:
        return self.meaning


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor that goes in or comes out.

    Attributes:
        name: what it is called.
        shape: sizes such as ``("B", 3, "H // 8", "W // 8")``.
        dtype: its type.
        unit: of its values, e.g. ``m``; ``1`` where they have none.
        meaning: what it holds.
        range: (least, bound): its values v are ``least <= v < bound``, where a bound may be of
            symbols too; None where any finite value is good.
        symbols: those in shape and range, explained.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype
    unit: str
    meaning: str
    range: tuple[int, Size] | None = None
    symbols: Mapping[str, Symbol]

    def sizes(self, **values: int) -> tuple[int, ...]:
        """Give the shape in numbers, e.g. ``spec.sizes(B=2, H=96, W=128)``."""
        return tuple(size_of(size, values) for size in self.shape)

    def bounds(self, **values: int) -> tuple[int, int] | None:
        """Give the range in numbers."""
        return None if self.range is None else (self.range[0], size_of(self.range[1], values))

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.name} ({sizes}) {dtype} [{self.unit}]: {self.meaning}"


def size_of(size: Size, values: Mapping[str, int]) -> int:
    """Give a size in numbers, the symbols being `values`."""
    first, *rest = str(size).split()
    result = _number(first, values)
    for operation, word in zip(rest[::2], rest[1::2], strict=True):
        assert operation in ("*", "//"), size
        number = _number(word, values)
        result = result * number if operation == "*" else result // number
    return result


def _number(word: str, values: Mapping[str, int]) -> int:
    return int(word) if word.isdigit() else values[word]


def taken(
    specs: Sequence[TensorSpec],
    inputs: Mapping[str, Tensor] | None,
    named: Mapping[str, Tensor],
    device: torch.device,
) -> dict[str, Tensor]:
    """Put a network's inputs together, given as a mapping or by name, and check all but values.

    Args:
        specs: of all inputs.
        inputs: by name; or None.
        named: by name, further ones.
        device: where they must lie.

    Raises:
        UserError: one is missing, unknown, or of another type, shape or device.
    """
    if inputs is not None and not isinstance(inputs, Mapping):
        raise UserError(
            f"forward was given a {type(inputs).__name__}",
            f"name the tensors: forward({specs[0].name}=…), or give them in a dict",
        )
    given = {**(inputs or {}), **named}
    known = [spec.name for spec in specs]
    for word, names in (
        ("lacks", [name for name in known if name not in given]),
        ("does not know", [name for name in given if name not in known]),
    ):
        if names:
            raise UserError(
                f"forward {word} {', '.join(map(str, names))}",
                f"input_spec() tells what it takes: {', '.join(known)}",
            )
    for spec in specs:
        _check_kind(spec, given[spec.name], device)
    _check_sizes(specs, given)
    return {name: given[name] for name in known}


def _check_kind(spec: TensorSpec, tensor: object, device: torch.device) -> None:
    if not isinstance(tensor, Tensor):
        raise UserError(
            f"{spec.name} is a {type(tensor).__name__}, no tensor", f"{spec} is expected"
        )
    if tensor.dtype != spec.dtype:
        raise UserError(f"{spec.name} is {tensor.dtype}", f"{spec} is expected")
    if tensor.device != device:
        raise UserError(
            f"{spec.name} is on {tensor.device}, the network on {device}",
            f'type {spec.name}.to("{device}"), or model.to("{tensor.device}")',
        )
    if tensor.dim() != len(spec.shape):
        raise UserError(f"{spec.name} has shape {tuple(tensor.shape)}", f"{spec} is expected")


def _check_sizes(specs: Sequence[TensorSpec], given: Mapping[str, Tensor]) -> None:
    """Let the first tensor with a symbol say its value; all others must agree."""
    values: dict[str, int] = {}
    for spec in specs:
        for size, found in zip(spec.shape, given[spec.name].shape, strict=True):
            if isinstance(size, str) and size in spec.symbols and size not in values:
                _check_symbol(spec, size, found)
                values[size] = found
    for spec in specs:
        shape = tuple(given[spec.name].shape)
        if shape != (wanted := spec.sizes(**values)):
            others = ", ".join(f"{name} {value}" for name, value in values.items())
            raise UserError(
                f"{spec.name} has shape {shape}, {wanted} is expected",
                f"{spec}; the first tensors say {others}",
            )


def _check_symbol(spec: TensorSpec, name: str, value: int) -> None:
    symbol = spec.symbols[name]
    if value < symbol.least or value % symbol.multiple_of:
        multiple = f", a multiple of {symbol.multiple_of}" * (symbol.multiple_of > 1)
        raise UserError(
            f"{spec.name}: {name} ({symbol.meaning}) is {value}",
            f"{symbol.least} or more{multiple} is expected",
        )
