"""Run command lines in one process, or one group of them: ``-m tests.pose.command_lines LINE …``.

Starting processes takes most of a short run's time.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from ffreid.cli import main
from ffreid.engine.checkpoints import io
from ffreid.engine.distributed import group


def run_line(line: str) -> None:
    """Run a command line that must succeed."""
    try:
        main(shlex.split(line))
    except SystemExit as end:
        if end.code:
            raise


def no_save(path: Path, state: Any) -> io.Saved:
    """Replace `io.save` and write nothing: checkpoints have 800 MB."""
    return io.Saved(path.name, 0.0, 0.0)


if __name__ == "__main__":
    with group.process_group():
        for argument in sys.argv[1:]:
            run_line(argument)
