"""Times and memory: of stages, and medians and ratios for `ffreid bench`."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Cost:
    """Wall time of a call and the rise of resident memory, which is None except on Linux."""

    milliseconds: float
    megabytes: float | None


class Stopwatch:
    """Seconds of each stage of work, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start


def row(
    stage: str,
    now: float,
    plain: float | None = None,
    *,
    part: bool = False,
    megabytes: float | None = None,
) -> dict[str, Any]:
    """A row of the table: milliseconds of ffreid and of the plain form of the same stage.

    `part`: whether the time is part of another row's. `megabytes` is the peak memory.
    """
    return {
        "stage": stage,
        "milliseconds": now,
        "share": None if part else 0.0,
        "plain milliseconds": plain,
        "ratio": None if plain is None else plain / now,
        "peak MB": megabytes,
    }


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of `call`, with a warm-up call if `repeats` > 1."""
    if repeats > 1:
        call()
    return median(_timed(call)[1] for _ in range(repeats))


def in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median wall times of calls that alternate, so that a busy machine slows all of them.

    Each runs once before, unless `repeats` is 1.
    """
    for call in calls.values() if repeats > 1 else ():
        call()
    times = [{name: _timed(call)[1] for name, call in calls.items()} for _ in range(repeats)]
    return {name: median(turn[name] for turn in times) for name in calls}


def measure_alone(prepare: Callable[..., Callable[[], object]], *args: Any) -> Cost:
    """Measure the call that `prepare` returns in a fresh process, where nothing raised the peak.

    `prepare` must be importable by name, and its arguments picklable.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_prepare_and_measure, prepare, *args).result()


def _prepare_and_measure(prepare: Callable[..., Callable[[], object]], *args: Any) -> Cost:
    return measure(prepare(*args))[1]


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Measure a call in this process; memory freed by earlier calls hides some of its own."""
    if not (_PROCESS / "clear_refs").exists():
        result, time = _timed(call)
        return result, Cost(time, None)
    (_PROCESS / "clear_refs").write_text("5")  # resets the peak to the current value: proc(5)
    before = _megabytes("VmRSS")
    result, time = _timed(call)
    return result, Cost(time, max(_megabytes("VmHWM") - before, 0.0))


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    start = perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, (perf_counter() - start) * 1000


def _megabytes(name: str) -> float:
    """Resident memory or its peak; getrusage's peak would start at the parent process's."""
    lines = (_PROCESS / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
