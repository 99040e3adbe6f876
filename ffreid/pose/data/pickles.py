"""Reading pickles that hold nothing but numpy arrays, numbers and strings."""

import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ffreid.errors import UserError, flat

# What rebuilds arrays, under the module names of numpy 1 and 2.
ALLOWED = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


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
            reader = _ArraysOnly(file)
            item = _load(reader, path)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", "complete the data set") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the file") from error
    missing = [key for key in needed if not isinstance(item, dict) or key not in item]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", f"a dict of {', '.join(needed)}")
    return dict(item)


def _load(reader: "_ArraysOnly", path: Path) -> Any:
    error: Exception | None = None
    item = None
    try:
        item = reader.load()
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


class _Refused:
    """Stands in for what is refused, so that reading goes on and every name is found."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> "_Refused":
        return self

    def __setstate__(self, state: object) -> None: ...


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays only and notes what else it was asked for."""

    def __init__(self, file: BinaryIO) -> None:
        # Python 2 wrote bytes as text; this encoding gives them back unchanged.
        super().__init__(file, encoding="latin1")
        self.refused: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Give a global that rebuilds arrays, or a stand-in for any other."""
        if (module, name) not in ALLOWED:
            self.refused.add(f"{module}.{name}")
            return _Refused
        # Numpy 2 warns about its old names, numpy 1 does not know the new ones.
        newer = module.replace("numpy.core", "numpy._core")
        try:
            return getattr(importlib.import_module(newer), name)
        except ImportError:
            return getattr(importlib.import_module(newer.replace("_core", "core")), name)
