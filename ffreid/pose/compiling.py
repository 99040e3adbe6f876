"""Compilation by numba, of the extra ``fast``."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile in seconds when first called; later processes read the result from numba's cache.

    Arguments are finite; sums and products are rounded as in numpy.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"nnan", "nsz"}}
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder to write to
        return cast(Function, numba.njit(**options)(function))


def inlined(function: Function) -> Function:
    """Compile as part of the callers."""
    return cast(Function, numba.njit(inline="always")(function))
