"""Times and memory on one machine, for `ffreid bench`: medians, and ratios within one run."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, ParamSpec

Given = ParamSpec("Given")
_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Cost:
    """What a call takes.

    Attributes:
        milliseconds: wall time of the first call.
        megabytes: how far it raises the process's memory above what was held before it; None
            where the system does not tell (it is Linux that does).
    """

    milliseconds: float
    megabytes: float | None


def row(
    stage: str,
    fast: float,
    slow: float | None = None,
    *,
    part: bool = False,
    megabytes: float | None = None,
) -> dict[str, Any]:
    """Give a row of the table.

    Args:
        stage: what was timed.
        fast: milliseconds of ours.
        slow: milliseconds of the plain method, where there is one.
        part: whether the time is no part of the whole that shares are taken of.
        megabytes: memory that it takes, where that was measured.
    """
    return {
        "stage": stage,
        "milliseconds": fast,
        "share": None if part else 0.0,
        "plain milliseconds": slow,
        "ratio": None if slow is None else slow / fast,
        "peak MB": megabytes,
    }


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Give the median wall time of `call`, after one to warm up where there are several."""
    if repeats > 1:
        call()
    return median(_timed(call) for _ in range(repeats))


def alone(
    prepare: Callable[Given, Callable[[], object]], /, *given: Given.args, **named: Given.kwargs
) -> Cost:
    """Measure a call in a fresh process, where no other has raised the peak before.

    Args:
        prepare: importable by name; makes, there, what is called and what it works on.
        given: plain values that `prepare` takes.
        named: further ones.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cost, prepare, *given, **named).result()


def _cost(
    prepare: Callable[Given, Callable[[], object]], /, *given: Given.args, **named: Given.kwargs
) -> Cost:
    return measured(prepare(*given, **named))


def measured(call: Callable[[], object]) -> Cost:
    """Measure a call in this process; memory that earlier calls left free hides some of its own."""
    if not (_PROCESS / "clear_refs").exists():
        return Cost(_timed(call), None)
    # 5 sets the peak to what is held now (proc(5)), so that preparing leaves no mark.
    (_PROCESS / "clear_refs").write_text("5")
    held = _megabytes("VmRSS")
    return Cost(_timed(call), max(_megabytes("VmHWM") - held, 0.0))


def _timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1000


def _megabytes(name: str) -> float:
    """Read this process's resident memory or its peak.

    Not from getrusage: a new process's peak begins there with that of the one that started it.
    """
    lines = (_PROCESS / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
