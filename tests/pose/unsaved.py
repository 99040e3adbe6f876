"""Run command lines one after the other without saving: ``-m tests.pose.unsaved LINE LINE …``.

Starting a process and writing checkpoints of 800 MB take most of a short run's time.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from ffreid.cli import main
from ffreid.engine.checkpoints import io
from ffreid.engine.distributed import group


def run_unsaved(line: str) -> None:
    """Run one command line; `checkpoint.save` must be replaced already."""
    try:
        main(shlex.split(line))
    except SystemExit as end:
        if end.code:
            raise


def no_save(path: Path, state: Any) -> io.Saved:
    """Save nothing, in place of `checkpoint.save`."""
    return io.Saved(path.name, 0.0, 0.0)


if __name__ == "__main__":
    setattr(io, "save", no_save)  # noqa: B010
    with group.process_group():
        for given in sys.argv[1:]:
            run_unsaved(given)
