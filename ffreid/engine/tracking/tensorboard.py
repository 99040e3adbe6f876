"""A run's numbers and pictures as TensorBoard's event files, below the run folder."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ffreid.engine.task import Images
from ffreid.engine.tracking.progress import main_rate
from ffreid.errors import UserError

FOLDER = "tensorboard"
_HINT = "pip install 'ffreid[tensorboard]', or leave --tensorboard out"


def check_available() -> None:
    """Refuse at the start what would fail later.

    Raises:
        UserError: tensorboard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(f"--tensorboard needs a package: {error}", _HINT) from error


class Board:
    """Event files of one run.

    Args:
        folder: of the run; the files lie in ``tensorboard`` below it.
        start: step that training goes on from: what was said of later ones is purged.

    Raises:
        UserError: tensorboard is not installed, or a file cannot be written.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        check_available()
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / FOLDER
        with self._guarded():
            self.writer: Any = SummaryWriter(str(self.folder), purge_step=start + 1, flush_secs=30)

    def numbers(self, done: int, values: Mapping[str, float]) -> None:
        """Add scalars by tag; what is not finite is left out."""
        with self._guarded():
            for tag, value in values.items():
                if math.isfinite(value):
                    self.writer.add_scalar(tag, value, done)

    def pictures(self, done: int, pictures: Images) -> None:
        """Add pictures by tag."""
        with self._guarded():
            for tag, picture in pictures.items():
                self.writer.add_image(tag, picture, done, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        with self._guarded():
            self.writer.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write in {self.folder}: {error.strerror}",
                "make room there, then go on with --resume auto",
            ) from error


def tagged(row: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, float]:
    """Turn a row of metrics.jsonl into scalars: each part's rate is ``lr/PART``."""
    kept = {name: row[name] for name in row if name not in ("step", "skipped", "samples")}
    if "lr" in kept:
        kept[f"lr/{main_rate(rates)}"] = kept.pop("lr")
    return kept
