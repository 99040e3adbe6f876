"""Commands on results, and on people's own frames and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ffreid import flags
from ffreid.errors import UserError
from ffreid.flags import option


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(compare)
    app.command(context_settings=flags.PAIRS)(predict)


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


REID = "Re-ID"


def predict(
    checkpoint: Annotated[Path, option("Checkpoint, e.g. best.pth of a run.")],
    dataset: Annotated[str | None, option("Dataset of a checkpoint that does not name it.")] = None,
    out: Annotated[Path | None, option("Folder for results and pictures.")] = None,
    query: Annotated[
        Path | None, option("Picture, or folder of pictures, of whom to find.", panel=REID)
    ] = None,
    gallery: Annotated[Path | None, option("Folder of pictures to search.", panel=REID)] = None,
    top: Annotated[int, option("Matches for each query.", panel=REID, min=1)] = 10,
    labels: Annotated[
        Path | None, option("CSV file with path and identity: colours of borders.", panel=REID)
    ] = None,
    pictures: Annotated[int, option("Rank lists to draw, with --out.", panel=REID, min=0)] = 20,
    blur_faces: Annotated[
        bool, option("Blur the upper fifth of every drawn picture.", "--blur-faces", panel=REID)
    ] = False,
    gpu: flags.Gpu = None,
    pairs: flags.Pairs = None,
) -> None:
    """Search your own pictures for persons (re-ID).

    Example: ffreid predict --checkpoint best.pth --query anna.jpg --gallery people --out found
    """
    flags.check_file(checkpoint, "checkpoint", "best.pth")
    flags.choose_devices(gpu)
    if query is None or gallery is None:
        missing = "--query" if query is None else "--gallery"
        raise UserError(f"no {missing}", "use --query FILE|FOLDER --gallery FOLDER")
    import torch

    from ffreid.api import ReidModel, load_model
    from ffreid.reid.predict import predict as run

    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = pairs or []
    settings = dict(zip(values[::2], values[1::2], strict=False))
    model = load_model(checkpoint, dataset, device=device, settings=settings)
    if not isinstance(model, ReidModel):
        raise UserError(f"{checkpoint} is a pose checkpoint", "use a re-ID checkpoint")
    if not run(
        model,
        query=query,
        gallery=gallery,
        out=out,
        top=top,
        labels=labels,
        pictures=pictures,
        blur_faces=blur_faces,
    ):
        raise typer.Exit(1)
