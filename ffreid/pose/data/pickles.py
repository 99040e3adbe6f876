"""Reading pickles that hold only numpy arrays, numbers and strings."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffreid.engine.checkpoints.pickle_scan import scan_pickle
from ffreid.engine.checkpoints.reader import find_problem
from ffreid.errors import UserError
from ffreid.files import regular


def _from_buffer(content: bytes, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)


GLOBALS = {"numpy.dtype": np.dtype, "numpy.ndarray": None} | {
    f"numpy.{core}.{name}": function
    for core in ("core", "_core")  # of numpy 1 and 2
    for name, function in (
        ("multiarray._reconstruct", lambda *_: np.ndarray(0, np.uint8)),  # its state has the rest
        ("multiarray.scalar", np.float64(0).__reduce__()[0]),
        ("numeric._frombuffer", _from_buffer),
    )
}
GLOBALS["_codecs.encode"] = lambda text, *_: text.encode("latin1")  # bytes, written for Python 2


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return GLOBALS[f"{module}.{name}"]


def read_arrays(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Read a pickled dict of arrays without running code from it.

    Raises:
        UserError: the file is missing, damaged, lacks a `needed` key, or contains more than arrays.
    """
    try:
        content = regular(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", "complete the dataset") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the file") from error
    scan = scan_pickle(io.BytesIO(content), {*GLOBALS})
    if scan.refused:
        raise UserError(
            f"{path} contains more than arrays: {scan.list_refused()}",
            "such a pickle can execute code: save rgb, depth, mask, K and RT as numpy arrays",
        )
    try:
        if scan.damage:
            raise pickle.UnpicklingError(scan.damage)
        # Python 2 wrote bytes as text; this encoding gives them back unchanged.
        item = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        problem = find_problem(item, np.ndarray)
    except Exception as error:  # a damaged pickle raises errors of any kind
        problem = type(error).__name__
    if problem:
        raise UserError(f"cannot read {path}: damaged ({problem})", "copy or render it again")
    missing = [key for key in needed if not isinstance(item, dict) or key not in item]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", f"a dict of {', '.join(needed)}")
    for key in needed:
        _check_lists(path, key, item[key], len(content))
    return dict(item)


def _check_lists(path: Path, key: str, value: Any, most: int) -> None:
    """Refuse lists that refer to others so often that an array of them would be far larger."""
    queue, count = [value], 0
    while queue:
        if isinstance(item := queue.pop(), list | tuple):
            count += len(item)
            if count > most:
                raise UserError(f"{path}: {key} repeats its lists", "save it as a numpy array")
            queue += item
