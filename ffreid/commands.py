"""Commands on results, and on people's own frames and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ffreid import flags


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(compare)


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...", help="Files results.json of ffreid eval, or their folders."
        ),
    ],
    report: flags.Report = None,
    json: flags.JsonFile = None,
) -> None:
    """Compare results of evaluations, with intervals of their differences to the first.

    Example: ffreid compare runs/ltcc/baseline runs/ltcc/cal --report compare.html
    """
    from ffreid.compare import compare as run

    run(results, json_file=json, report_file=report)
