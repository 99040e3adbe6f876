"""Metrics and images of a run as TensorBoard event files, in ``tensorboard`` in the run folder."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffreid.engine.task import Images
from ffreid.engine.tracking.run_state import write_errors
from ffreid.errors import UserError

FOLDER = "tensorboard"


def check_available() -> None:
    """Check before training that the package is installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--tensorboard needs another package: {error}",
            "pip install 'ffreid[tensorboard]', or remove --tensorboard",
        ) from error


class EventWriter:
    """Writes the event files of a run, and purges events after its `start`."""

    def __init__(self, folder: Path, *, start: int) -> None:
        check_available()
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / FOLDER
        with write_errors(self.folder):
            self.writer: Any = SummaryWriter(str(self.folder), purge_step=start + 1, flush_secs=30)

    def add_scalars(self, done: int, values: Mapping[str, float]) -> None:
        """Add the finite scalars by tag."""
        with write_errors(self.folder):
            for tag, value in values.items():
                if math.isfinite(value):
                    self.writer.add_scalar(tag, value, done)

    def add_images(self, done: int, images: Images) -> None:
        """Add images (H, W, 3) by tag."""
        with write_errors(self.folder):
            for tag, image in images.items():
                self.writer.add_image(tag, image, done, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered."""
        with write_errors(self.folder):
            self.writer.close()
