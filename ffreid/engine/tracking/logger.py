"""What a training run tells, and where it goes: metrics, log, state, event files, the terminal."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ffreid import report
from ffreid.engine.signals import Stopped
from ffreid.engine.task import Images, Plan
from ffreid.engine.tracking import run_folder, run_state
from ffreid.engine.tracking.progress import Best, Recent, StepRecord, main_rate, make_display
from ffreid.engine.tracking.tensorboard import Board, tagged
from ffreid.errors import UserError

__all__ = ["RunLogger", "StepRecord"]

STATE_EVERY = 30.0
"""Seconds between refreshed ``state.json`` at most, while steps are done."""


class RunLogger:
    """Tells of one run. Processes other than the first write and show nothing.

    A block: while it lasts the run is ``running``. Afterwards it is what `state` has said, else
    ``failed`` after an error, ``finished`` where all steps are done and ``stopped`` where not.

    Args:
        folder: of the run, which exists.
        plan: how long training is.
        main: whether this is the first process.
        start: steps done before.
        log_every: steps between rows of metrics.jsonl.
        tensorboard: write event files too.
        title: what is being done.
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
        title: str = "training",
    ) -> None:
        self.folder, self.plan, self.main, self.log_every = folder, plan, main, log_every
        self.recent = Recent(title=title, plan=plan, done=start)
        self.display = make_display(self.recent, show=main)
        self.tensorboard = main and tensorboard
        self.board: Board | None = None
        self.facts: dict[str, Any] = {}
        self.told = 0.0

    def __enter__(self) -> "RunLogger":
        if self.tensorboard:
            self.board = Board(self.folder, start=self.recent.done)
        self.set_state("running", started=run_state.now())
        self.display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.display.stop()
        # A full disk, say, is told by the first error, not by one more about this file.
        with suppress(UserError) if error is not None else nullcontext():
            if self.board is not None:
                self.board.close()
            if self.facts.get("state") == "running":
                self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self.set_state("finished" if self.recent.done >= self.plan.total else "stopped")
        elif isinstance(error, Stopped) or not isinstance(error, Exception):
            self.set_state("stopped")
        else:
            self.set_state("failed", error=f"{type(error).__name__}: {error}")

    def log_step(self, record: StepRecord) -> None:
        """Tell of a step: to the display always, else at every so many steps.

        Also at the first, the last and every skipped one.
        """
        if not self.main:
            return
        self.display.step(record)
        logged = record.done % self.log_every == 0 or record.done in (1, self.plan.total)
        if logged or record.skipped is not None:
            self._write(step_row(record), record.rates)
        if time.monotonic() - self.told >= STATE_EVERY:
            self._refresh()

    def log(self, text: str) -> None:
        """Say a line for people, above the display."""
        if self.main:
            report.log(text)

    def log_epoch(self, number: int, line: str | None, seconds: float) -> None:
        """Tell that epoch `number` (from 0) has ended after `seconds`.

        Its `line`, where the task has one, goes to log_train.log and is said.
        """
        if not self.main:
            return
        if line is not None:
            run_folder.append_line(self.folder, line)
            report.log(line)
        if self.board is not None:
            self.board.numbers(self.recent.done, {"epoch seconds": seconds})
        self._refresh()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the display away for the block, which shows bars and tables of its own."""
        if self.main:
            self._refresh()
        self.display.pause()
        try:
            yield
        finally:
            self.display.start()

    def log_validation(
        self,
        done: int,
        row: Mapping[str, float],
        *,
        prefix: str = "validation",
        pictures: Images | None = None,
        best: Best | None = None,
    ) -> None:
        """Tell of an evaluation after `done` steps.

        Args:
            done: steps.
            row: its numbers, by name.
            prefix: what the names begin with in metrics.jsonl.
            pictures: for event files.
            best: the best state so far, this one included.
        """
        if not self.main:
            return
        self._write({"step": done} | {f"{prefix}/{name}": row[name] for name in row}, {})
        if prefix == "validation":  # others, as of averaged weights, stand in the files
            self.recent.validated = (done, row)
        if best is not None:
            self.log_best(best)
        if self.board is not None and pictures:
            named = {f"{prefix}/{name}": pictures[name] for name in pictures}
            self.board.pictures(done, named)

    def log_best(self, best: Best) -> None:
        """Tell what the best state so far is, also when a run is resumed."""
        self.recent.best = best
        self.facts |= {"best": best.value, "best_name": best.name, "best_step": best.step}
        self._refresh()

    def log_checkpoint(self, done: int, name: str, *, seconds: float, megabytes: float) -> None:
        """Tell that a checkpoint was written after `done` steps."""
        if self.main:
            row = {f"save/{name} seconds": seconds, f"save/{name} MB": megabytes}
            self._write({"step": done} | row, {})
            self._refresh()

    def set_state(self, state: str, **facts: Any) -> None:
        """Write ``state.json``: running, finished, stopped or failed; `facts` stay from now on."""
        self.facts |= facts | {"state": state}
        self._refresh()

    def _refresh(self) -> None:
        if self.main:
            self.told = time.monotonic()
            place = {
                "state": self.facts.get("state"),
                "step": self.recent.done,
                "total": self.plan.total,
            }
            run_state.write(self.folder, place | self.facts)

    def _write(self, row: Mapping[str, Any], rates: Mapping[str, float]) -> None:
        run_folder.append_metrics(self.folder, row)
        if self.board is not None:
            self.board.numbers(row["step"], tagged(row, rates))


def step_row(record: StepRecord) -> dict[str, Any]:
    """Give a step's row of metrics.jsonl."""
    main = main_rate(record.rates)
    row: dict[str, Any] = {"step": record.done, "epoch": record.epoch}
    row |= {"lr" if name == main else f"lr/{name}": rate for name, rate in record.rates.items()}
    row |= {"seconds": record.seconds, "waited": record.waited}
    row |= {f"train/{name}": value for name, value in record.terms.items()}
    row |= {f"norm/{name}": value for name, value in record.norms.items()}
    return (
        row
        if record.skipped is None
        else row | {"skipped": record.skipped, "samples": list(record.names)}
    )
