"""`--profile N`: where the time of N training steps goes, as a trace and as a table."""

from pathlib import Path
from types import TracebackType

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from ffreid.errors import UserError
from ffreid.report import Cell, log, show_table

WARM_UP = 2
"""Steps before those that are recorded: the first ones allocate and choose kernels."""
DEAREST = 15
"""Operations that the table shows."""
_STEP = "ProfilerStep"
"""How the profiler names its own mark of a whole step."""


class profiled:
    """Record `count` steps after `WARM_UP` others; then print and write where their time went.

    The dearest operations are a table on stdout, and ``folder/profile/trace.json`` is the trace,
    both made when the last of these steps is done; at the end of the context where a run is
    shorter, interrupted or fails.

    Args:
        count: steps; 0 records nothing and writes nothing.
        folder: of the run.

    Raises:
        UserError: the trace cannot be written.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self.count, self.path = count, folder / "profile" / "trace.json"
        self.done = 0
        self.running: profile | None = None

    def __enter__(self) -> "profiled":
        if self.count:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.unlink(missing_ok=True)
            except OSError as error:
                raise _unwritable(self.path, error.strerror) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running is not None:
            self._finish()
        if self.done <= WARM_UP and self.count:
            log(f"nothing was profiled: {WARM_UP} steps warm up; steps run: {self.done}")

    def step(self) -> None:
        """Say that a training step is done."""
        self.done += 1
        if self.running is not None:
            self.running.step()
            if self.done == WARM_UP + self.count:
                self._finish()
        elif self.done == WARM_UP and self.count:
            self.running = profile(activities=_activities())
            self.running.start()

    def _finish(self) -> None:
        running, self.running = self.running, None
        assert running is not None
        running.stop()
        steps = self.done - WARM_UP
        if not steps:
            return
        running.export_chrome_trace(str(self.path))
        if not self.path.is_file():  # the profiler itself says nothing of a failure
            raise _unwritable(self.path, "no trace was written")
        on_device = ProfilerActivity.CUDA in _activities()
        columns, rows = dearest(list(running.key_averages()), steps, on_device=on_device)
        show_table(f"The dearest operations, steps recorded: {steps}", columns, rows)
        log(f"profile: {self.path} (open it in chrome://tracing or ui.perfetto.dev)")


def dearest(
    events: list[FunctionEventAvg], steps: int, *, on_device: bool
) -> tuple[list[str], list[list[Cell]]]:
    """Give columns and rows of the `DEAREST` operations, the dearest first.

    Times are an operation's own, without those that it calls, in milliseconds a step. On a device
    its time decides, and the host's stands beside it.

    Args:
        events: one for each operation's name.
        steps: how many were recorded.
        on_device: whether a CUDA device was recorded too.
    """
    events = [event for event in events if not str(event.key).startswith(_STEP)]
    kinds = {"device": _device_time, "CPU": _cpu_time} if on_device else {"CPU": _cpu_time}
    first = next(iter(kinds.values()))
    whole = sum(first(event) for event in events) or 1.0
    columns = ["operation", "calls a step", *(f"{kind} ms a step" for kind in kinds), "share %"]
    rows: list[list[Cell]] = [
        [
            event.key,
            event.count / steps,
            *(time(event) / steps / 1000 for time in kinds.values()),
            100 * first(event) / whole,
        ]
        for event in sorted(events, key=first, reverse=True)[:DEAREST]
    ]
    return columns, rows


def _cpu_time(event: FunctionEventAvg) -> float:
    """Microseconds."""
    return float(event.self_cpu_time_total)


def _device_time(event: FunctionEventAvg) -> float:
    """Microseconds."""
    return float(event.self_device_time_total)


def _activities() -> list[ProfilerActivity]:
    cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return [ProfilerActivity.CPU, *cuda]


def _unwritable(path: Path, why: str | None) -> UserError:
    return UserError(f"cannot write {path}: {why}", "choose another folder with --output FOLDER")
