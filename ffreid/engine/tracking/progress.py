"""Progress on stderr: a bar on a terminal, a line every 10 seconds otherwise."""

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Self

import torch
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ffreid import report
from ffreid.engine.task import Best, Plan
from ffreid.engine.train_step import StepResult

PRINT_EVERY = 10.0
"""Seconds between lines of progress where stderr is no terminal."""
REFRESH_EVERY = 0.25
"""Seconds between refreshes of a bar on a terminal."""
WINDOW = 20
"""Steps that losses and speed are averaged over."""
MAX_METRICS = 8
"""Validation metrics that are shown."""


class ProgressBar:
    """Progress of work of `total` units, `done` of which were done before.

    No thread refreshes the bar: forked data workers would inherit its locks.
    """

    def __init__(
        self, title: str, total: int | None = None, *, done: int = 0, show: bool = True
    ) -> None:
        self.title, self.total, self.done, self.show = title, total, done, show
        self.initial = done
        self.started = self.refreshed = time.monotonic()
        self.console = Console(stderr=True)
        self.on_terminal = show and sys.stderr.isatty() and not self.console.is_dumb_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[times]}"),
            expand=True,
        )
        self.task = self.bar.add_task(title, times="")
        self.live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def update(self, done: int, total: int | None = None) -> None:
        """Set the number of units that are done; the first call shows the bar."""
        self.done, self.total = done, self.total if total is None else total
        self.start()
        self.refresh()

    def advance(self, count: int = 1) -> None:
        """Add to the number of units that are done."""
        self.update(self.done + count)

    def start(self) -> None:
        """Show the bar if stderr is a terminal, also again after `stop`."""
        if not self.on_terminal or self.live is not None:
            return
        self.live = Live(
            # Space for ^C at the end of the last line, where it would wrap and move the cursor.
            get_renderable=lambda: Constrain(self.render(), self.console.width - 3),
            console=self.console,
            auto_refresh=False,
            # Results that go to a file stay there: rich would send them to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self.live.start(refresh=True)
        self.console.show_cursor(True)  # a killed process must not leave the terminal without one

    def stop(self, *, erase: bool = False) -> None:
        """Leave the bar in its last state, or erase it."""
        if self.live is not None:
            self.live.transient = erase
            self.live.stop()
            self.live = None

    def refresh(self) -> None:
        """Redraw the bar, or print a line, if the last one is old enough."""
        now = time.monotonic()
        if self.live is not None and now - self.refreshed >= REFRESH_EVERY:
            self.live.refresh()
            self.refreshed = now
        elif self.show and not self.on_terminal and now - self.refreshed >= PRINT_EVERY:
            report.log(self.line())
            self.refreshed = now

    def render(self) -> RenderableType:
        """Return what a terminal shows."""
        times = "  ".join(self.times())
        self.bar.update(self.task, completed=self.done, total=self.total, times=times)
        return self.bar

    def line(self) -> str:
        """Return what is printed where there is no terminal."""
        count = f"{self.done}/{self.total}" if self.total else str(self.done)
        return f"{self.title}: {', '.join([count, *self.times()])}"

    def times(self) -> Iterator[str]:
        """Yield the elapsed time, and the estimated time that is left where it is known."""
        yield f"elapsed {timedelta(seconds=int(time.monotonic() - self.started))}"
        speed = self.speed()
        if speed and self.total:
            yield f"ETA {timedelta(seconds=round((self.total - self.done) / speed))}"

    def speed(self) -> float | None:
        """Return units per second; None at the start."""
        seconds = time.monotonic() - self.started
        return (self.done - self.initial) / seconds if seconds > 0 else None


class TrainingProgress(ProgressBar):
    """Progress of training with losses, learning rates, speed, memory and the last validation."""

    def __init__(self, plan: Plan, *, done: int = 0, show: bool = True) -> None:
        super().__init__("training", plan.total, done=done, show=show)
        self.plan, self.skipped = plan, 0
        self.results: deque[StepResult] = deque(maxlen=WINDOW)
        self.validation: tuple[int, Mapping[str, float]] | None = None
        self.best: Best | None = None
        self.epoch = done // plan.steps_per_epoch
        self.epochs = math.ceil(plan.total / plan.steps_per_epoch)

    def step(self, result: StepResult) -> None:
        """Add a step."""
        self.done, self.epoch = result.done, result.epoch
        self.skipped += result.skipped is not None
        self.results.append(result)
        self.refresh()

    def speed(self) -> float | None:
        """Return steps per second of the last steps, waiting for data included."""
        seconds = sum(result.waited + result.seconds for result in self.results)
        return len(self.results) / seconds if seconds > 0 else None

    def times(self) -> Iterator[str]:
        """Yield the epoch, from 1, and the times."""
        yield f"epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}"
        yield from super().times()

    def render(self) -> RenderableType:
        """Return the bar with a table of metrics below."""
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(style="bright_black", no_wrap=True)
        table.add_column(ratio=1)
        for label, items in self.metrics().items():
            table.add_row(label, Columns(map(Text, items), padding=(0, 2)))
        return Group(super().render(), table)

    def line(self) -> str:
        """Return times, losses, learning rates, speed and memory in one line."""
        metrics = self.metrics()
        rates = [f"lr {item}" for item in metrics.get("lr", ())]
        return ", ".join([super().line(), *metrics["train"], *rates, *metrics.get("speed", ())])

    def metrics(self) -> dict[str, list[str]]:
        """Return names and values by kind: train, lr, speed, validation, best."""
        if not self.results:
            rows = {"train": ["waiting for the first batch"]}
        else:
            last = self.results[-1]
            rows = {
                "train": [f"{name} {self._mean(name):.4f}" for name in last.terms],
                "lr": [f"{name} {rate:.1e}" for name, rate in last.rates.items()],
                "speed": [*self._speeds(), *memory()],
            }
            if self.skipped:
                rows["train"].append(f"skipped {self.skipped}")
        if self.validation is not None:
            step, row = self.validation
            selecting = self.best.name if self.best else None
            names = sorted(row, key=lambda name: name != selecting)
            more = [f"and {len(names) - MAX_METRICS} more"] * (len(names) > MAX_METRICS)
            shown = [f"{name} {row[name]:.4f}" for name in names[:MAX_METRICS]]
            rows["validation"] = [f"step {step}:", *shown, *more]
        if self.best is not None:
            at = "" if self.best.step is None else f" at step {self.best.step}"
            rows["best"] = [f"{self.best.name} {self.best.value:.4f}{at}"]
        return rows

    def _mean(self, name: str) -> float:
        """Return the mean of a loss's finite values in the last steps; NaN if there is none."""
        values = (result.terms.get(name, math.nan) for result in self.results)
        finite = list(filter(math.isfinite, values))
        return fmean(finite) if finite else math.nan

    def _speeds(self) -> Iterator[str]:
        if speed := self.speed():
            for rate, unit in ((speed, "steps/s"), (speed * self.plan.batch, "samples/s")):
                yield f"{rate:.0f} {unit}" if rate >= 100 else f"{rate:.3g} {unit}"
            waited = sum(result.waited for result in self.results) * speed / len(self.results)
            yield f"waiting for data {waited:.0%}"


def main_rate(rates: Mapping[str, float]) -> str | None:
    """Return the part whose learning rate is logged as ``lr``: ``net``, else the first."""
    return "net" if "net" in rates else next(iter(rates), None)


def memory() -> Iterator[str]:
    """Yield this process's resident memory (on Linux) and the peak of the GPU's, where used."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        resident = int(statm.read_text().split()[1]) * resource.getpagesize()
        yield f"memory {resident / 1e9:.1f} GB"
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield f"GPU memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
