"""Which states of a run stay on the disk, and from which one it goes on by itself."""

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.io import Saved
from ffreid.engine.defaults import FREE_TO_CHANGE
from ffreid.engine.tracking.progress import Best
from ffreid.errors import UserError

LAST = "last.pth"
EPOCH = re.compile(r"epoch-(\d+)\.pth")
OTHER = "go on from another checkpoint"


@dataclass(frozen=True)
class CheckpointManager:
    """Writes a run's checkpoints; one process does.

    Args:
        folder: the run's; it is there.
        every: keep the state after each so many epochs; 0 for none.
        keep: how many of these, the newest; 0 for all.
    """

    folder: Path
    every: int = 0
    keep: int = 0

    def save(self, name: str, state: Mapping[str, Any], *, epoch: int | None = None) -> Saved:
        """Write one checkpoint, and sweep away what a killed save has left.

        Args:
            name: of the file.
            state: what it holds.
            epoch: number, from 1, of the one that has ended just now; its state is kept beside
                where it `keeps` that epoch.

        Raises:
            UserError: it cannot be written, or the folder is gone.
        """
        started = time.monotonic()
        if not self.folder.is_dir():
            raise UserError(
                f"cannot write {self.folder / name}: its folder is gone",
                "bring the disk or the folder back and go on with --resume auto",
            )
        for part in self.folder.glob("*.part"):
            with suppress(OSError):  # harmless but for the room it takes
                part.unlink()
        if epoch is None or not self.keeps(epoch):
            return io.save(self.folder / name, state)
        # The epoch's first: killed in between, the run comes by here once more.
        kept = self.folder / f"epoch-{epoch:04d}.pth"
        saved = io.save(kept, state)
        self._thin_out(epoch)
        try:
            _link(kept, self.folder / name)
        except OSError as error:
            raise UserError(
                f"cannot write {self.folder / name}: {error.strerror}",
                f"free some space and go on with --resume {kept}",
            ) from error
        return Saved(name, time.monotonic() - started, saved.megabytes)

    def keeps(self, epoch: int) -> bool:
        """Whether the state after `epoch`, counted from 1, is kept."""
        return self.every > 0 and epoch % self.every == 0

    def _thin_out(self, epoch: int) -> None:
        """Remove the oldest; later ones, of a run that once went further, wait to be rewritten."""
        if not self.keep:
            return
        for old in [path for path in epochs(self.folder) if _number(path) <= epoch][self.keep :]:
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(
                    f"cannot remove {old}, the oldest of the kept epochs: {error.strerror}",
                    "make its folder writable, or keep all with TRAIN.KEEP 0",
                ) from error


def epochs(folder: Path) -> list[Path]:
    """The kept states of epochs, newest epoch first."""
    found = [path for path in folder.glob("epoch-*.pth") if EPOCH.fullmatch(path.name)]
    return sorted(found, key=_number, reverse=True)


def latest_valid(
    folder: Path, say: Callable[[str], None] = report.log
) -> tuple[Path, dict[str, Any]] | None:
    """Find and load the furthest state of a run that is whole and can be gone on from.

    ``last.pth`` first, then the epochs from the newest: an epoch's state was ``last.pth`` once, so
    this is the order of their steps. Times of files are not: copying a folder changes them.

    Args:
        folder: the run's.
        say: told of each file that is skipped.

    Returns:
        The file and what it holds; None where there is no checkpoint of a run at all.

    Raises:
        UserError: none of those that are there can be used, or one may not be read.
    """
    candidates = [path for path in (folder / LAST, *epochs(folder)) if path.is_file()]
    for path in candidates:
        try:
            return path, _sound(path)
        except UserError as error:
            if isinstance(error.__cause__, PermissionError):
                # Sound perhaps: going back to an older one would lose steps.
                raise UserError(
                    error.message, "make it readable, or name one: --resume FILE"
                ) from error
            say(f"note: skipped: {error.message}")
    if not candidates:
        return None
    raise UserError(
        f"no checkpoint in {folder} can be gone on from, all are broken: "
        f"{', '.join(path.name for path in candidates)}",
        f"move them away to start anew in {folder}, or start another run with --tag NAME",
    )


def _sound(path: Path) -> dict[str, Any]:
    """Load a checkpoint that holds what going on needs."""
    state = io.load(path)
    missing = [name for name in NEEDED if name not in state]
    if missing:
        raise UserError(f"{path} holds no {', '.join(missing)}, which going on needs", OTHER)
    return state


def _link(source: Path, path: Path) -> None:
    """Give `source` a second name, in place of what `path` was; a copy where links are not made."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        with atomic.atomic_write(path) as file, source.open("rb") as whole:
            shutil.copyfileobj(whole, file, 2**20)
        return
    part.replace(path)
    part.unlink(missing_ok=True)  # which is still there if both were the same file before
    atomic.fsync_folder(path.parent)


def _number(path: Path) -> int:
    found = EPOCH.fullmatch(path.name)
    assert found
    return int(found[1])


NEEDED = ("step", "best", "parts", "optimisers", "classes", "total", "config")


def check_resumable(
    state: Mapping[str, Any],
    origin: str,
    cfg: CfgNode,
    *,
    classes: Sequence[str],
    total: int,
    free: Sequence[str],
) -> None:
    """Refuse a checkpoint from which this run cannot go on as if never interrupted.

    Args:
        state: the checkpoint.
        origin: its file, for the message.
        cfg: of the run.
        classes: what the run tells apart.
        total: steps of the run.
        free: the task's settings that may have changed, beside `settings.FREE_TO_CHANGE`.

    Raises:
        UserError: saying what differs.
    """
    for name in NEEDED:
        if name not in state:
            raise UserError(
                f"{origin} holds no {name}, which going on needs",
                "resume from a last.pth of ours; ffreid eval --checkpoint evaluates other files",
            )
    if state.get("dataset") not in (None, cfg.DATASET):
        raise UserError(
            f"{origin} was trained on {state['dataset']}, not on {cfg.DATASET}",
            f"go on with --dataset {state['dataset']}; ffreid eval --checkpoint may evaluate it",
        )
    if state.get("task") != cfg.TASK:
        raise UserError(
            f"{origin} is of the task {state.get('task')}, {cfg.DATASET} of another",
            "resume a run of the same data set",
        )
    if state["classes"] != list(classes):
        raise UserError(
            f"{origin} was trained on other classes than {cfg.DATASET} has "
            f"({len(state['classes'])} there, {len(classes)} here)",
            "resume a run of the same data set; ffreid eval --checkpoint may still evaluate it",
        )
    for key, then, now in differing(cfg, state["config"]):
        if not key.startswith((*FREE_TO_CHANGE, *free)):
            raise UserError(
                f"{origin} was trained with {key} {then}, this run has {now}",
                f"go on with {key} {then}, or start anew with --tag NAME",
            )
    if state["step"] > total:
        raise UserError(
            f"{origin} has trained {state['step']} steps, this run is {total} long",
            "ffreid eval --checkpoint evaluates it; a longer run has more epochs",
        )
    if state["total"] != total:
        raise UserError(
            f"{origin} is of a run of {state['total']} steps, this one has {total}",
            "the data set's lists have changed: restore them, or start anew with --tag NAME",
        )


def best_values(state: Mapping[str, Any]) -> dict[str, Best]:
    """Give a checkpoint's best values by the state's name.

    Earlier versions kept one, and did not say what of.
    """
    earlier = {} if state["best"] is None else {"best": {"name": "value", "value": state["best"]}}
    return {name: Best(**best) for name, best in state.get("bests", earlier).items()}
