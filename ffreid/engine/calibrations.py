"""The file beside a checkpoint that says what its scores mean, whatever its task."""

import json
from pathlib import Path
from typing import Any

from ffreid.engine.dataset_files import read_text

AGAIN = "write it again with ffreid eval --calibrate, or remove it"
"""The hint of a calibration that cannot be used."""


def path_of(checkpoint: Path) -> Path:
    """``best.calibration.json`` of ``best.pth``."""
    return checkpoint.with_suffix(".calibration.json")


def content_of(path: Path, task: str) -> dict[str, Any]:
    """Read the file of a calibration.

    Raises:
        OSError, ValueError: it cannot be read, is no calibration, or is of another task.
    """
    content = json.loads(read_text(path))
    if not isinstance(content, dict) or not isinstance(content.get("task"), str):
        raise ValueError("it names no task")
    if content["task"] != task:
        raise ValueError(f"it is of the task {content['task']}")
    return content
