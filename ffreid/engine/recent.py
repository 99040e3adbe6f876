"""The last steps of a run, smoothed for those who watch: losses, speed, waiting, time to go."""

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ffreid.engine.task import Plan

WINDOW = 20
"""Steps that are averaged."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a step came to.

    Attributes:
        done: steps done, this one included.
        epoch: from 0.
        terms: means over processes; ``loss`` is the sum.
        rates: learning rate of each trained part.
        norms: gradient norm of each part that was stepped.
        waited: seconds waited for data.
        seconds: of computing.
        skipped: why the step was skipped.
        names: the samples that brought that about.
    """

    done: int
    epoch: int
    terms: Mapping[str, float]
    rates: Mapping[str, float]
    norms: Mapping[str, float]
    waited: float
    seconds: float
    skipped: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value so far of the number that selects, and after how many steps it was had."""

    name: str
    value: float
    step: int | None = None


@dataclass(kw_only=True)
class Recent:
    """What a display shows of a run.

    Attributes:
        title: what is being done.
        plan: how long it is.
        done: steps done.
        last: the last step of this start, None before it.
        skipped: steps skipped since this start.
        validated: steps before the last evaluation, and its numbers.
        best: the best state so far, where it is known.
    """

    title: str
    plan: Plan
    done: int = 0
    last: StepRecord | None = None
    skipped: int = 0
    validated: tuple[int, Mapping[str, float]] | None = None
    best: Best | None = None
    started: float = field(default_factory=time.monotonic)
    _steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, record: StepRecord) -> None:
        """Count a step."""
        self.done, self.last = record.done, record
        self.skipped += record.skipped is not None
        self._steps.append(record)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, a last short one counted."""
        return math.ceil(self.plan.total / self.plan.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The epoch that is trained, from 1."""
        step = self.last.done - 1 if self.last else self.done
        return min(step // self.plan.steps_per_epoch + 1, self.epochs)

    @property
    def elapsed(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self.started

    def terms(self) -> dict[str, float]:
        """Give each term's mean over the last steps; NaN where none of them is a number."""
        names = self.last.terms if self.last else ()
        return {name: self._mean(name) for name in names}

    def _mean(self, name: str) -> float:
        values = [record.terms.get(name, math.nan) for record in self._steps]
        finite = [value for value in values if math.isfinite(value)]
        return fmean(finite) if finite else math.nan

    def speed(self) -> float | None:
        """Give steps a second, waiting for data included; None before the first."""
        seconds = sum(record.waited + record.seconds for record in self._steps)
        return len(self._steps) / seconds if seconds > 0 else None

    def waiting(self) -> float:
        """Give the share of the time that was waited for data."""
        seconds = sum(record.waited + record.seconds for record in self._steps)
        return sum(record.waited for record in self._steps) / seconds if seconds > 0 else 0.0

    def left(self) -> float | None:
        """Give the seconds that the steps to come take at this speed, without evaluations."""
        speed = self.speed()
        return None if speed is None else (self.plan.total - self.done) / speed


def main_rate(rates: Mapping[str, float]) -> str | None:
    """Name the part whose learning rate stands for the run: ``net``, else the first."""
    return "net" if "net" in rates else next(iter(rates), None)


def memory() -> dict[str, float]:
    """Give gigabytes: resident in this process, and the peak on the GPU where one is in use."""
    found: dict[str, float] = {}
    pages = Path("/proc/self/statm")  # it is Linux that tells
    if pages.exists():
        import resource

        held = int(pages.read_text().split()[1]) * resource.getpagesize()
        found["memory"] = held / 1e9
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["GPU peak"] = torch.cuda.max_memory_allocated() / 1e9
    return found
