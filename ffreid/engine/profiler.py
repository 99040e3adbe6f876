"""`--profile N`: where the time of N training steps goes, as a trace and as a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile, schedule

from ffreid.errors import UserError
from ffreid.report import Cell, log, show_table

WARM_UP = 2
"""Steps before the recorded ones: the first ones allocate and choose kernels."""
SHOWN = 15
"""Operations in the table."""


@contextmanager
def profile_steps(count: int, folder: Path) -> Iterator[Callable[[], None]]:
    """Profile `count` training steps after `WARM_UP` others; call the result after each step.

    When they are done, or the block ends, the most expensive operations are printed as a table,
    and the trace is written to ``folder/profile/trace.json``. With 0 steps nothing happens.

    Raises:
        UserError: the trace cannot be written.
    """
    if not count:
        yield lambda: None
        return
    path = folder / "profile" / "trace.json"
    hint = "use another folder: --output FOLDER"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", hint) from error
    cuda = torch.cuda.is_available()

    def report(profiler: profile) -> None:
        if (steps := profiler.step_num - WARM_UP) <= 0:
            return
        profiler.export_chrome_trace(str(path))
        if not path.is_file():  # the profiler does not raise
            raise UserError(f"cannot write {path}: no trace was written", hint)
        columns, rows = most_expensive(list(profiler.key_averages()), steps, on_device=cuda)
        show_table(f"Most expensive operations of {steps} training steps", columns, rows)
        log(f"profile: {path} (open it in chrome://tracing or ui.perfetto.dev)")

    with profile(
        activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda],
        schedule=schedule(wait=0, warmup=WARM_UP, active=count, repeat=1),
        on_trace_ready=report,
        acc_events=True,  # else torch warns about cycles, of which there is one
    ) as profiler:
        try:
            yield profiler.step
        finally:
            if (steps := profiler.step_num) <= WARM_UP:
                log(f"nothing was profiled: {WARM_UP} steps are warm-up, and only {steps} ran")


def most_expensive(
    events: list[FunctionEventAvg], steps: int, *, on_device: bool
) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the `SHOWN` operations with the longest self time, in ms per step.

    With `on_device` they are sorted by the time on the CUDA device, and the CPU's is shown too.
    """
    kinds = {"device": "self_device_time_total"} if on_device else {}
    kinds |= {"CPU": "self_cpu_time_total"}
    columns = ["operation", "calls per step", *(f"{kind} ms per step" for kind in kinds), "share %"]
    events = [event for event in events if not str(event.key).startswith("ProfilerStep")]
    times = [[float(getattr(event, kind)) for kind in kinds.values()] for event in events]
    total = sum(first for first, *_ in times) or 1.0
    rows: list[list[Any]] = [
        [event.key, event.count / steps, *(t / steps / 1000 for t in ts), 100 * ts[0] / total]
        for event, ts in zip(events, times, strict=True)
    ]
    return columns, sorted(rows, key=lambda row: row[2], reverse=True)[:SHOWN]
