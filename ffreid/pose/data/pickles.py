"""Reading pickles that hold nothing but numpy arrays, numbers and strings."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ffreid.engine.checkpoints.reader import Reader, Refused, count, demand, encoded
from ffreid.errors import UserError, flat


def read_arrays(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Read a pickled dict of arrays without running code from it.

    Args:
        path: the pickle.
        needed: keys it must hold.

    Raises:
        UserError: the file is missing, damaged, lacks a key, or asks for anything but arrays.
    """
    try:
        with path.open("rb") as file:
            # Python 2 wrote bytes as text; this encoding gives them back unchanged.
            reader = Reader(file, _STAND_INS, encoding="latin1")
            item = _load(reader, path)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", "complete the data set") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the file") from error
    missing = [key for key in needed if not isinstance(item, dict) or key not in item]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", f"a dict of {', '.join(needed)}")
    return dict(item)


def _load(reader: Reader, path: Path) -> Any:
    error: Exception | None = None
    item = None
    try:
        item = _real(reader.load())
    except OSError:
        raise
    except Exception as raised:  # a damaged pickle raises errors of any kind
        error = raised
    if reader.refused:
        raise UserError(
            f"{path} asks for more than arrays: {', '.join(sorted(reader.refused))}",
            "such a pickle may run code: save rgb, depth, mask, K and RT as numpy arrays",
        ) from error
    if error is not None:
        raise UserError(
            f"cannot read {path}: {flat(str(error)) or type(error).__name__}",
            "the file is damaged: copy or render it again",
        ) from error
    return item


class _Array:
    """Stands in for an array until its state is known to fit."""

    numpy: npt.NDArray[Any]

    def accept(self, state: Any) -> None:
        """Take (version, shape, dtype, whether Fortran's order, content)."""
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        self.numpy = _filled(content, dtype, shape, "F" if fortran else "C")


def _empty(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: bytes, dtype: Any, shape: Any, order: str) -> Any:
    array = _Array()
    array.numpy = _filled(content, dtype, shape, "F" if order == "F" else "C")
    return array


def _number(dtype: Any, content: bytes | str) -> Any:
    if isinstance(dtype, Refused):
        return dtype
    content = content.encode("latin1") if isinstance(content, str) else content
    return _filled(content, dtype, (), "C")[()]


def _filled(content: bytes, dtype: Any, shape: Any, order: Literal["C", "F"]) -> Any:
    if isinstance(dtype, Refused):
        return dtype
    demand(math.prod(map(count, shape)) * dtype.numpy.itemsize == len(content))
    return np.ndarray(shape, dtype.numpy, bytearray(content), order=order)


def _real(item: Any) -> Any:
    """Put arrays in place of what stands in for them."""
    if isinstance(item, _Array):
        return item.numpy
    if isinstance(item, dict):
        return {key: _real(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(map(_real, item))
    demand(isinstance(item, int | float | complex | str | bytes | np.generic | None))
    return item


# What rebuilds arrays, under the module names of numpy 1 and 2.
_STAND_INS: dict[str, Any] = {"numpy.ndarray": _Array, "_codecs.encode": encoded} | {
    f"numpy.{core}.{name}": stand_in
    for core in ("core", "_core")
    for name, stand_in in (
        ("multiarray._reconstruct", _empty),
        ("multiarray.scalar", _number),
        ("numeric._frombuffer", _from_buffer),
    )
}
