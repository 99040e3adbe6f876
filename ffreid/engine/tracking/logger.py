"""Logging of a training run: metrics.jsonl, log_train.log, state.json, event files, progress."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Self

from ffreid import report
from ffreid.engine.checkpoints.io import Saved
from ffreid.engine.signals import Stopped
from ffreid.engine.task import Best, Images, Plan
from ffreid.engine.tracking import run_folder, run_state
from ffreid.engine.tracking.progress import TrainingProgress, main_rate
from ffreid.engine.tracking.tensorboard import EventWriter
from ffreid.engine.train_step import StepResult
from ffreid.errors import UserError

STATE_EVERY = 30.0
"""Seconds between updates of ``state.json`` at most, while steps are done."""


class RunLogger:
    """Logs one run; processes other than the main one write and show nothing.

    A context manager, inside which the run is ``running``. Afterwards its state is the one that
    `set_state` was called with, else ``failed`` after an error, ``finished`` if all steps are done
    and ``stopped`` otherwise.

    `start` steps were done before; every `log_every`-th has a row in metrics.jsonl.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        main: bool,
        start: int,
        log_every: int,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.plan, self.main, self.log_every = folder, plan, main, log_every
        self.progress = TrainingProgress(plan, done=start, show=main)
        self.tensorboard = main and tensorboard
        self.events: EventWriter | None = None
        self.status: dict[str, Any] = {}
        self.status_written = 0.0

    def __enter__(self) -> Self:
        if self.tensorboard:
            self.events = EventWriter(self.folder, start=self.progress.done)
        self.set_state("running", started=run_state.now())
        self.progress.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.progress.stop()
        # A full disk, say, is reported by the first error, not by another about this file.
        with suppress(UserError) if error is not None else nullcontext():
            if self.events is not None:
                self.events.close()
            if self.status.get("state") != "running":
                return
            if isinstance(error, Exception) and not isinstance(error, Stopped):
                self.set_state("failed", error=f"{type(error).__name__}: {error}")
            elif error is None and self.progress.done >= self.plan.total:
                self.set_state("finished")
            else:
                self.set_state("stopped")

    def log(self, text: str) -> None:
        """Print a message above the progress."""
        if self.main:
            report.log(text)

    def log_step(self, result: StepResult) -> None:
        """Show a step; write every `log_every`-th, the first, the last and every skipped one."""
        if not self.main:
            return
        self.progress.step(result)
        is_due = result.done % self.log_every == 0 or result.done in (1, self.plan.total)
        if is_due or result.skipped is not None:
            self._write(step_row(result), result.rates)
        if time.monotonic() - self.status_written >= STATE_EVERY:
            self._write_state()

    def log_epoch(self, number: int, line: str | None, seconds: float) -> None:
        """Log the end of an epoch; its `line` is printed and appended to log_train.log."""
        if not self.main:
            return
        if line is not None:
            run_folder.append_line(self.folder, line)
            report.log(line)
        if self.events is not None:
            self.events.add_scalars(self.progress.done, {"epoch seconds": seconds})
        self._write_state()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Erase the progress while other bars and tables are shown."""
        if self.main:
            self._write_state()
        self.progress.stop(erase=True)
        try:
            yield
        finally:
            self.progress.start()

    def log_validation(
        self,
        done: int,
        row: Mapping[str, float],
        *,
        prefix: str = "validation",
        images: Images | None = None,
        best: Best | None = None,
    ) -> None:
        """Log the metrics of a validation after `done` steps, `prefix`ed; images to event files."""
        if not self.main:
            return
        self._write({"step": done} | {f"{prefix}/{name}": row[name] for name in row})
        if prefix == "validation":  # others, as of averaged weights, are in the files only
            self.progress.validation = (done, row)
        if best is not None:
            self.log_best(best)
        if self.events is not None and images:
            self.events.add_images(done, {f"{prefix}/{name}": images[name] for name in images})

    def log_best(self, best: Best) -> None:
        """Log the best value so far, also when a run is resumed."""
        self.progress.best = best
        self.status |= {"best": best.value, "best_name": best.name, "best_step": best.step}
        self._write_state()

    def log_checkpoint(self, done: int, saved: Saved) -> None:
        """Log that a checkpoint was saved after `done` steps."""
        if self.main:
            costs = {"seconds": saved.seconds, "MB": saved.megabytes}
            self._write({"step": done} | {f"save/{saved.name} {c}": costs[c] for c in costs})
            self._write_state()

    def set_state(self, state: str, **facts: Any) -> None:
        """Write ``state.json``: running, finished, stopped or failed; `facts` are kept in it."""
        self.status |= facts | {"state": state}
        self._write_state()

    def _write_state(self) -> None:
        if self.main:
            self.status_written = time.monotonic()
            status = {"state": None, "step": self.progress.done, "total": self.plan.total}
            run_state.write(self.folder, status | self.status)

    def _write(self, row: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> None:
        run_folder.append_metrics(self.folder, row)
        if self.events is not None:
            scalars = {key: row[key] for key in row if key not in ("step", "skipped", "samples")}
            if "lr" in scalars:  # each part's learning rate is lr/PART
                scalars[f"lr/{main_rate(rates or {})}"] = scalars.pop("lr")
            self.events.add_scalars(row["step"], scalars)


def step_row(result: StepResult) -> dict[str, Any]:
    """Return a step's row of metrics.jsonl."""
    main = main_rate(result.rates)
    row: dict[str, Any] = {"step": result.done, "epoch": result.epoch}
    row |= {"lr" if name == main else f"lr/{name}": rate for name, rate in result.rates.items()}
    row |= {"seconds": result.seconds, "waited": result.waited}
    row |= {f"train/{name}": value for name, value in result.terms.items()}
    row |= {f"norm/{name}": value for name, value in result.norms.items()}
    if result.skipped is not None:
        row |= {"skipped": result.skipped, "samples": list(result.names)}
    return row
