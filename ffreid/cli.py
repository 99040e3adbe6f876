"""The command line: parse, call, print; everything heavy is imported inside the commands."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ffreid import __version__, options
from ffreid.errors import UserError, flat
from ffreid.options import Cls, Dataset, Gpu, JsonFile, Output, Pairs, Recipe, Root, Tag

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@app.command()
def train(
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    output: Output = None,
    tag: Tag = None,
    cls: Cls = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
    amp: Annotated[bool, typer.Option("--amp", help="reid: half precision.")] = False,
    evaluate_only: Annotated[
        bool, typer.Option("--eval", help="Evaluate --resume FILE, do not train.")
    ] = False,
    gpu: Gpu = None,
    pairs: Pairs = None,
) -> None:
    """Train a network, then report its best state."""
    settings = [*(["TRAIN.AMP", "true"] if amp else []), *(pairs or [])]
    config = _compose(dataset, root, cfg, output, tag, cls, settings, {"--amp": amp})
    options.choose_devices(gpu)
    resume = resume or _given(config.MODEL.get("RESUME"))
    options.check_file(resume, "checkpoint", "last.pth")
    from ffreid import runner
    from ffreid.engine import dist

    if evaluate_only or config.get("EVAL_MODE"):
        runner.evaluate(config, weights=resume)
        return
    with dist.joined():
        runner.train(config, resume=resume)
        runner.finish(config)


@app.command(name="eval")
def evaluate(
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    output: Output = None,
    tag: Tag = None,
    cls: Cls = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", "--resume", help="Weights; the run's best, else last."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Frames, or queries with what they find, to draw.")
    ] = 0,
    json: JsonFile = None,
    gpu: Gpu = None,
    test_gt: Annotated[
        bool, typer.Option("--test-gt", help="pose: vote with the true labels and offsets.")
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(help="pose: score these, a folder of text files, or BOP's CSV."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="pose: truth for --predictions.")] = None,
    frames: Annotated[Path | None, typer.Option(help="pose: frames of --predictions.")] = None,
    save_features: Annotated[
        Path | None, typer.Option(help="reid: write features and labels to this .npz.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="reid: evaluate saved features, without a network.")
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="reid: k-reciprocal re-ranking as well.")
    ] = False,
    pairs: Pairs = None,
) -> None:
    """Evaluate a checkpoint, the true labels, saved features, or somebody's poses."""
    given = {
        "--checkpoint": checkpoint,
        "--pictures": pictures,
        "--test-gt": test_gt,
        "--predictions": predictions,
        "--truth": truth,
        "--frames": frames,
        "--save-features": save_features,
        "--features": features,
        "--rerank": rerank,
    }
    # Saved features need no pictures, so no folder that holds them.
    config = _compose(dataset, root, cfg, output, tag, cls, pairs, given, data=features is None)
    options.refuse_idle(given)
    options.check_file(checkpoint, "checkpoint", "best.pth")
    options.check_file(features, "features", "what --save-features wrote")
    options.choose_devices(gpu)
    if predictions is not None:
        from ffreid.pose.evaluation import evaluate_predictions

        evaluate_predictions(config, predictions, truth=truth, frames=frames, json_file=json)
        return
    from ffreid import runner

    own: dict[str, Any] = {"pictures": pictures}
    if config.TASK == "pose":
        own |= {"use_truth": test_gt}
    else:
        own |= {"save_features": save_features, "features": features, "rerank": rerank}
    weights = checkpoint or _given(config.MODEL.get("RESUME"))
    runner.evaluate(config, weights=weights, json_file=json, **own)


@app.command()
def data(
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    cls: Cls = None,
    json: JsonFile = None,
    pairs: Pairs = None,
) -> None:
    """Read a data set's lists and names, and count what there is in each split."""
    config = _compose(dataset, root, cfg, None, None, cls, pairs, {})
    from ffreid import runner

    runner.count(config, json_file=json)


@app.command()
def smoke(
    keep: Annotated[Path | None, typer.Option(help="Leave data and pictures there.")] = None,
    json: JsonFile = None,
) -> None:
    """Try every part on made-up data and print one table of what was checked."""
    from ffreid.smoke import smoke as run

    if not run(keep=keep, json_file=json):
        raise typer.Exit(1)


BENCHES = {"pose": "stages of a frame", "reid": "stages of a search"}


@app.command()
def bench(
    task: Annotated[str, typer.Argument(help="pose or reid")],
    quick: Annotated[bool, typer.Option("--quick", help="Small and few: a look only.")] = False,
    json: JsonFile = None,
) -> None:
    """Time each stage, beside the plain method where there is a faster one."""
    if task not in BENCHES:
        raise UserError(f"nothing to time for {task!r}", "ffreid bench pose, or ffreid bench reid")
    from importlib import import_module

    from ffreid import report

    rows = import_module(f"ffreid.{task}.bench").bench(quick)
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [[row[name] for name in columns] for row in rows]
    report.show_table(f"{task}: {BENCHES[task]}", columns, cells)
    if json is not None:
        report.write_json(json, {"rows": rows})


def _given(path: str | None) -> Path | None:
    return Path(path) if path else None


def _compose(
    dataset: str,
    root: Path | None,
    cfg: Path | None,
    output: Path | None,
    tag: str | None,
    cls: str | None,
    pairs: list[str] | None,
    given: dict[str, Any],
    *,
    data: bool = True,
) -> Any:
    """The configuration, with flags `given` of this task only and, if need be, its data there."""
    from ffreid.recipes import check_root, compose

    config = compose(
        dataset, file=cfg, pairs=pairs or [], root=root, output=output, tag=tag, cls=cls
    )
    options.refuse_foreign(config.TASK, dataset, {"--cls": cls, **given})
    if data:
        check_root(config)
    return config


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
    """FFB6D object pose and CAL re-identification on today's PyTorch: train, evaluate, look."""


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
