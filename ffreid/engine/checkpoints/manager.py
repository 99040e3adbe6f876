"""Which checkpoints a run keeps, and which one it resumes from."""

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.io import Saved
from ffreid.engine.defaults import FREE_TO_CHANGE
from ffreid.engine.task import Best
from ffreid.errors import UserError

LAST = "last.pth"
NEEDED = ("task", "step", "best", "parts", "optimisers", "classes", "total", "config")
"""Entries that resuming needs."""
EVALUATE = "evaluate it with ffreid eval --checkpoint"


@dataclass(frozen=True)
class CheckpointManager:
    """Writes a run's checkpoints, in one process.

    The state after `every` N epochs is kept (0 for none), of these the newest `keep` (0 for all).
    """

    folder: Path
    every: int = 0
    keep: int = 0

    def save(self, name: str, state: Mapping[str, Any], *, epoch: int | None = None) -> Saved:
        """Write one checkpoint.

        If an `epoch`, counted from 1, has just ended, its state is kept too if `keeps` is true.
        """
        started = time.monotonic()
        if not self.folder.is_dir():
            raise UserError(
                f"cannot write {self.folder / name}: its folder no longer exists",
                "restore the folder, then use --resume auto",
            )
        if epoch is None or not self.keeps(epoch):
            return io.save(self.folder / name, state)
        # The epoch's file first: if killed in between, the resumed run writes both again.
        kept = self.folder / f"epoch-{epoch:04d}.pth"
        saved = io.save(kept, state)
        # Later epochs stay: the run was taken back to an earlier one.
        earlier = [path for path in epochs(self.folder) if _number(path) <= epoch]
        for old in earlier[self.keep :] if self.keep else ():
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(
                    f"cannot remove {old}, the oldest epoch checkpoint: {error.strerror}",
                    "make its folder writable, or keep all epochs with TRAIN.KEEP 0",
                ) from error
        try:
            _link(kept, self.folder / name)
        except OSError as error:
            message = f"cannot write {self.folder / name}: {error.strerror}"
            raise UserError(message, f"free disk space, then use --resume {kept}") from error
        return Saved(name, time.monotonic() - started, saved.megabytes)

    def keeps(self, epoch: int) -> bool:
        """Whether the state after `epoch`, counted from 1, is kept."""
        return self.every > 0 and epoch % self.every == 0


def epochs(folder: Path) -> list[Path]:
    """List the kept states of epochs, newest epoch first."""
    paths = [path for path in folder.glob("epoch-*.pth") if _number(path) >= 0]
    return sorted(paths, key=_number, reverse=True)


def _number(path: Path) -> int:
    match = re.fullmatch(r"epoch-(\d+)\.pth", path.name)
    return int(match[1]) if match else -1


def _link(source: Path, path: Path) -> None:
    """Replace `path` by a hard link to `source`, or a copy where links are not supported."""
    part = atomic.partial_file(path)
    try:
        os.link(source, part)
    except OSError:
        with atomic.atomic_write(path) as file, source.open("rb") as original:
            shutil.copyfileobj(original, file, 2**20)
        return
    part.replace(path)
    part.unlink(missing_ok=True)  # it remains if both were the same file before
    atomic.fsync_folder(path.parent)


def latest_valid(
    folder: Path, log: Callable[[str], None] = report.log, *, skip: Collection[Path] = ()
) -> tuple[Path, dict[str, Any]] | None:
    """Load the latest undamaged checkpoint of a run that it can resume from; None if it has none.

    ``last.pth`` first, then the epochs from the newest: an epoch's state was ``last.pth`` once, so
    this is the order of their steps. File times are not: copying a folder changes them. Those to
    `skip` count as damaged.
    """
    candidates = [path for path in (folder / LAST, *epochs(folder)) if path.is_file()]
    for path in candidates:
        if path in skip:
            continue
        try:
            state = io.load(path)
            _check_complete(state, str(path))
            return path, state
        except UserError as error:
            if isinstance(error.__cause__, PermissionError):
                # It may be valid: resuming from an older one would lose steps.
                hint = "make it readable, or use --resume FILE"
                raise UserError(error.message, hint) from error
            log(f"note: skipped: {error.message}")
    if not candidates:
        return None
    raise UserError(
        f"cannot resume from {folder}, all its checkpoints are damaged: "
        f"{', '.join(path.name for path in candidates)}",
        f"move them to train from scratch in {folder}, or start another run with --tag NAME",
    )


def _check_complete(state: Mapping[str, Any], origin: str) -> None:
    if missing := [name for name in NEEDED if name not in state]:
        raise UserError(
            f"cannot resume from {origin}: it lacks {', '.join(missing)}",
            "use last.pth of a run; others can only be evaluated: ffreid eval --checkpoint FILE",
        )


def check_resumable(
    state: Mapping[str, Any],
    origin: str,
    cfg: CfgNode,
    classes: Sequence[str],
    total: int,
    free: Sequence[str],
) -> None:
    """Refuse a checkpoint from which this run cannot continue as if never interrupted.

    `free` are the task's settings that may differ, in addition to `defaults.FREE_TO_CHANGE`.
    """
    _check_complete(state, origin)
    then, name = state.get("dataset"), cfg.DATASET
    if then not in (None, name):
        problem = f"was trained on {then}, not on {name}"
        hint = f"use --dataset {then}, or {EVALUATE}"
    elif state.get("task") != cfg.TASK:
        problem = f"is of the task {state.get('task')}, {name} of the task {cfg.TASK}"
        hint = "use a checkpoint of the same dataset"
    elif state["classes"] != list(classes):
        counts = f"({len(state['classes'])} there, {len(classes)} here)"
        problem = f"was trained on other classes than those of {name} {counts}"
        hint = f"start from its weights with --init {origin}, or {EVALUATE}"
    elif changed := [
        (f"{key} {old}", new)
        for key, old, new in differing(cfg, state["config"])
        if not key.startswith((*FREE_TO_CHANGE, *free))
    ]:
        problem = f"was trained with {changed[0][0]}, this run has {changed[0][1]}"
        hint = f"resume with {changed[0][0]}, or train from scratch with --tag NAME"
    elif state["step"] > total:
        problem = f"was trained for {state['step']} steps, this run has {total}"
        hint = f"train for more epochs, or {EVALUATE}"
    elif state["total"] != total:
        problem = f"is from a run of {state['total']} steps, this run has {total}"
        hint = "the dataset's lists have changed: restore them, or use another --tag NAME"
    else:
        return
    raise UserError(f"{origin} {problem}", hint)


def best_values(state: Mapping[str, Any]) -> dict[str, Best]:
    """Return a checkpoint's best values by the name of their file; old versions kept one."""
    old = {} if state["best"] is None else {"best": {"name": "value", "value": state["best"]}}
    return {name: Best(**best) for name, best in state.get("bests", old).items()}
