"""The command line: parse, call, print; everything heavy is imported inside the commands."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ffreid import __version__, flags
from ffreid.engine.distributed import failures
from ffreid.errors import UserError, flat
from ffreid.flags import Cls, Dataset, Gpu, JsonFile, Output, Pairs, Recipe, Root, Tag
from ffreid.report import log

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def train(
    context: typer.Context,
    dataset: Dataset,
    root: Root = None,
    cfg: Recipe = None,
    output: Output = None,
    tag: Tag = None,
    cls: Cls = None,
    resume: Annotated[
        str | None, typer.Option(help="Checkpoint to go on from, or auto: the run's newest.")
    ] = None,
    gpu: Gpu = None,
    gpus: Annotated[
        int | None, typer.Option(help="Start so many processes, one for each device.")
    ] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Half precision: bf16, else fp16.")] = False,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or bf16, by name; fp64.")
    ] = None,
    opt_level: Annotated[
        str | None, typer.Option("--opt_level", help="apex's, deprecated: O1 to O3 are --amp.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Bitwise the same on a GPU too; slower.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Event files for TensorBoard as well.")
    ] = False,
    overfit: Annotated[
        int | None, typer.Option(min=1, help="Train on so many samples, always the same.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One step and one evaluation batch; writes nothing.")
    ] = False,
    profile: Annotated[
        int, typer.Option(min=0, help="Trace so many steps with torch's profiler.")
    ] = 0,
    evaluate_only: Annotated[
        bool, typer.Option("--eval", help="Evaluate --resume FILE, do not train.")
    ] = False,
    pairs: Pairs = None,
) -> None:
    """Train a network, then report its best state."""
    settings = flags.train_settings(
        amp=amp,
        precision=precision,
        opt_level=opt_level,
        deterministic=deterministic,
        tensorboard=tensorboard,
        overfit=overfit,
    )
    config = _compose(dataset, root, cfg, output, tag, cls, [*settings, *(pairs or [])], {})
    evaluates = evaluate_only or config.get("EVAL_MODE")
    flags.refuse_idle_in_training(
        {"--gpus": gpus, "--dry-run": dry_run, "--profile": profile, "--eval": evaluates}
    )
    flags.choose_devices(gpu, several="" if gpus else "add --gpus {count}")
    start = flags.checkpoint_to_resume(resume or config.MODEL.get("RESUME") or None)
    if gpus is not None:
        from ffreid.engine.distributed.launch import launch, without_gpus

        sys.exit(launch(gpus, without_gpus(context.obj)))
    from ffreid import runner
    from ffreid.engine.distributed import group

    if evaluates:
        runner.evaluate(config, weights=start if isinstance(start, Path) else None)
        return
    if dry_run:
        runner.dry_run(config, resume=start)
        return
    with group.process_group():
        runner.train(config, resume=start, profiled_steps=profile)
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
    flags.refuse_idle(given)
    flags.check_file(checkpoint, "checkpoint", "best.pth")
    flags.check_file(features, "features", "what --save-features wrote")
    flags.choose_devices(
        gpu, several="start it by torchrun --nproc-per-node {count} -m ffreid eval …"
    )
    if predictions is not None:
        from ffreid.pose.evaluation import evaluate_predictions

        evaluate_predictions(config, predictions, gt=truth, frames=frames, json_file=json)
        return
    from ffreid import runner

    own: dict[str, Any] = {"pictures": pictures}
    if config.TASK == "pose":
        own |= {"use_gt": test_gt}
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

    runner.describe_dataset(config, json_file=json)


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
def runs(
    words: Annotated[
        list[str], typer.Argument(metavar="[plot] FOLDER...", help="Folders of runs.")
    ],
    output: Annotated[Path | None, typer.Option(help="plot: the PNG file.")] = None,
    json: JsonFile = None,
) -> None:
    """List runs with their state, best metric and differing settings; plot draws their curves."""
    if words[0] != "plot":
        if output is not None:
            raise UserError("--output does nothing without plot", "leave --output out")
        from ffreid.engine.tracking.runs import list_runs

        list_runs([Path(word) for word in words], json_file=json)
        return
    if not words[1:] or json is not None:
        raise UserError(
            "plot takes folders of runs, and no --json", "ffreid runs plot FOLDER [FOLDER...]"
        )
    from ffreid.engine.tracking.plot import default_file, plot_runs

    folders = [Path(word) for word in words[1:]]
    log(f"curves in {plot_runs(folders, file=output or default_file(folders))}")


@app.command(name="convert-ckpt")
def convert_checkpoint(
    old: Annotated[Path, typer.Argument(help="Checkpoint of FFB6D, Simple-CCReID, or ours.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NEW] [KEY VALUE]...", help="File to write; what OLD cannot tell."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing NEW.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it is.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load it strictly and run one forward.")
    ] = False,
    to: Annotated[
        str, typer.Option(help="ffreid, original (the authors'), safetensors.")
    ] = "ffreid",
    legacy: Annotated[
        bool, typer.Option("--legacy", help="original: as PyTorch before 1.6 reads it.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="Of several networks in the file, the one to take, e.g. ema.")
    ] = "",
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Run what the file says. A pickle can run any program as you."
        ),
    ] = False,
) -> None:
    """Recognise a checkpoint, tell what it is, and write it in ffreid's or the authors' form."""
    from ffreid.convert import convert

    flags.check_file(old, "checkpoint", "FFB6D_best.pth.tar")
    rest = words or []
    flags.check_pairs_after_file(rest)
    convert(
        old,
        Path(rest[0]) if len(rest) % 2 else None,
        force=force,
        dry_run=dry_run,
        check=check,
        to=to,
        legacy=legacy,
        weights=weights,
        trust_pickle=trust_pickle,
        settings=rest[len(rest) % 2 :],
    )


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def migrate(
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="Or a script's file.")],
) -> None:
    """Print today's form of a command of FFB6D or Simple-CCReID, and what has changed in it."""
    from ffreid.migrate import tell

    tell(words)


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
    from ffreid import atomic, report
    from ffreid.bench import pose, reid

    rows = pose.bench(quick) if task == "pose" else reid.bench(quick)
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [[row[name] for name in columns] for row in rows]
    report.show_table(f"{task}: {BENCHES[task]}", columns, cells)
    if json is not None:
        atomic.write_json(json, {"rows": rows})


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
    from ffreid import tasks
    from ffreid.recipes import compose

    config = compose(
        dataset, file=cfg, pairs=pairs or [], root=root, output=output, tag=tag, cls=cls
    )
    flags.refuse_foreign(config.TASK, dataset, {"--cls": cls, **given})
    if data:
        tasks.defaults(config.TASK).check_root(config)
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
    """Run the command line; exit 0, 1 (a bug, or a failed check) or as `ending.end` says."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # typer carries a click of its own, which can't be imported by name.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=arguments,
            prog_name="ffreid",
            standalone_mode=False,
            obj=sys.argv[1:] if arguments is None else arguments,
        )
    except usage_error as error:
        failures.exit_with(_usage(error))
    except typer.Abort:
        failures.exit_with(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:
        failures.exit_with(error)
    if (
        code == failures.INTERRUPTED
    ):  # typer makes this code of Ctrl-C itself, elder ones raise Abort
        failures.exit_with(KeyboardInterrupt())
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> UserError:
    """A mistyped command or flag as any other mistake."""
    close = getattr(error, "possibilities", None)
    where = error.ctx.command_path if error.ctx else "ffreid"
    hint = f"did you mean {close[0]}?" if close else f"see {where} --help"
    return UserError(flat(error.format_message()) or "no command is given", hint)
