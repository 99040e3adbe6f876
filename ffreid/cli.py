"""The command line: parse, call, print; everything heavy is imported inside the commands."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ffreid import __version__
from ffreid.errors import UserError, flat

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

Dataset = Annotated[str, typer.Option(help="Recipe: ycb, linemod, toy-pose.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder that holds the data set's folder, or is it.")
]
Recipe = Annotated[Path | None, typer.Option("--cfg", help="YAML file over the recipe.")]
Output = Annotated[Path | None, typer.Option(help="Folder of runs.")]
Tag = Annotated[str | None, typer.Option(help="Name of this run.")]
Cls = Annotated[str | None, typer.Option(help="LineMOD's object: one network each.")]
Pairs = Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Settings.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the results there too.")]


@app.command()
def train(
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    output: Output = None,
    tag: Tag = None,
    cls: Cls = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
    pairs: Pairs = None,
) -> None:
    """Train a network, then evaluate the poses of its best state."""
    config = _compose(dataset, root, cfg, output, tag, cls, pairs)
    from ffreid import runner
    from ffreid.engine import dist

    with dist.joined():
        runner.train(config, resume=resume)
        if config.TRAIN.EVAL_POSES:
            runner.evaluate(config)


@app.command(name="eval")
def evaluate(
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    output: Output = None,
    tag: Tag = None,
    cls: Cls = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights; the run's best, else last.")
    ] = None,
    test_gt: Annotated[
        bool, typer.Option("--test-gt", help="Vote with the true labels and offsets.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="Frames to draw.")] = 0,
    json: JsonFile = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score these poses: a folder of text files, or BOP's CSV.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="True poses for --predictions.")] = None,
    frames: Annotated[Path | None, typer.Option(help="Frames of --predictions.")] = None,
    pairs: Pairs = None,
) -> None:
    """Evaluate a checkpoint, the true labels, or somebody's poses."""
    config = _compose(dataset, root, cfg, output, tag, cls, pairs)
    _refuse_idle_flags(predictions, truth, frames, checkpoint, test_gt, pictures)
    if predictions is not None:
        from ffreid.pose.evaluation import evaluate_predictions

        evaluate_predictions(config, predictions, truth=truth, frames=frames, json_file=json)
        return
    from ffreid import runner

    runner.evaluate(
        config, weights=checkpoint, use_truth=test_gt, pictures=pictures, json_file=json
    )


@app.command()
def smoke(
    keep: Annotated[Path | None, typer.Option(help="Leave data and pictures there.")] = None,
    json: JsonFile = None,
) -> None:
    """Try every part on made-up data and print one table of what was checked."""
    from ffreid.smoke import smoke as run

    if not run(keep=keep, json_file=json):
        raise typer.Exit(1)


@app.command()
def bench(
    task: Annotated[str, typer.Argument(help="pose")],
    quick: Annotated[bool, typer.Option("--quick", help="Small and few: a look only.")] = False,
    json: JsonFile = None,
) -> None:
    """Time each stage, beside the plain method where there is a faster one."""
    if task != "pose":
        raise UserError(f"nothing to time for {task!r}", "ffreid bench pose")
    from ffreid import report
    from ffreid.pose import bench as stages

    rows = stages.bench(quick)
    columns = list(rows[0])
    report.show_table("pose: stages of a frame", columns, [[r[c] for c in columns] for r in rows])
    if json is not None:
        report.write_json(json, {"rows": rows})


def _refuse_idle_flags(
    predictions: Path | None,
    truth: Path | None,
    frames: Path | None,
    checkpoint: Path | None,
    test_gt: bool,
    pictures: int,
) -> None:
    """Refuse flags that would do nothing beside the others."""
    if predictions is None:
        idle = ["--truth"] * bool(truth) + ["--frames"] * bool(frames)
        reason = "without --predictions"
    else:
        idle = ["--checkpoint"] * bool(checkpoint) + ["--test-gt"] * test_gt
        idle += ["--pictures"] * bool(pictures)
        reason = "with --predictions"
    if predictions is None and test_gt and checkpoint:
        idle, reason = ["--checkpoint"], "with --test-gt, which needs no network"
    if idle:
        raise UserError(f"{', '.join(idle)} does nothing {reason}", f"leave {idle[0]} out")
    if checkpoint is not None and not checkpoint.is_file():
        raise UserError(f"no checkpoint {checkpoint}", "give an existing file, e.g. best.pth")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ffreid {__version__}\n")
        raise typer.Exit


@app.callback()
def root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """FFB6D object pose on today's PyTorch: train, evaluate, look."""


def _compose(
    dataset: str,
    root: Path | None,
    cfg: Path | None,
    output: Path | None,
    tag: str | None,
    cls: str | None,
    pairs: list[str] | None,
) -> Any:
    from ffreid.recipes import check_root, compose

    config = compose(
        dataset, file=cfg, pairs=pairs or [], root=root, output=output, tag=tag, cls=cls
    )
    check_root(config)
    return config


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0, 1 (a bug, or a failed check), 2 (a mistake), 130 (Ctrl-C)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # typer carries a click of its own, which can't be imported by name.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="ffreid", standalone_mode=False)
    except UserError as error:
        _fail(error.message, error.hint)
    except usage_error as error:
        _fail(*_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer makes this code of Ctrl-C itself, elder ones raise Abort
        sys.stderr.write(
            "error: interrupted\n"
            "hint: what was saved is intact; training goes on with --resume RUN/last.pth\n"
        )
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> tuple[str, str]:
    """Two lines for a mistyped command or flag."""
    close = getattr(error, "possibilities", None)
    where = error.ctx.command_path if error.ctx else "ffreid"
    hint = f"did you mean {close[0]}?" if close else f"see {where} --help"
    return flat(error.format_message()) or "no command is given", hint


def _fail(message: str, hint: str) -> None:
    sys.stderr.write(f"error: {flat(message)}\nhint: {flat(hint)}\n")
    sys.exit(2)
