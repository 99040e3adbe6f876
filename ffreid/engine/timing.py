"""Times of one process on one machine, for `ffreid bench`: medians, and ratios within one run."""

from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter
from typing import Any


def row(
    stage: str, fast: float, slow: float | None = None, *, part: bool = False
) -> dict[str, Any]:
    """Give a row of the table.

    Args:
        stage: what was timed.
        fast: milliseconds of ours.
        slow: milliseconds of the plain method, where there is one.
        part: whether the time is no part of the whole that shares are taken of.
    """
    return {
        "stage": stage,
        "milliseconds": fast,
        "share": None if part else 0.0,
        "plain milliseconds": slow,
        "ratio": None if slow is None else slow / fast,
        "peak MB": None,
    }


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Give the median wall time of `call`, after one to warm up where there are several."""
    if repeats > 1:
        call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append((perf_counter() - start) * 1000)
    return median(times)


def peak_megabytes() -> float:
    """Give the most memory that this process has held so far; it never falls."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024
