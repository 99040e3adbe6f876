"""The command line: parse, call, print; everything heavy is imported inside the commands."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ffreid import __version__, commands, flags
from ffreid.engine.distributed import failures
from ffreid.errors import UserError, flat
from ffreid.flags import option
from ffreid.report import log


class _Commands(TyperGroup):
    """Commands whose names may be two words: ``data`` is one, ``data cache`` another."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the first one or two words."""
        if (name := " ".join(args[:2])) in self.commands:
            args = [name, *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command(context_settings=flags.PAIRS)
def train(
    context: typer.Context,
    dataset: flags.Dataset,
    root: flags.Root = None,
    cls: flags.Cls = None,
    objects: flags.Objects = None,
    cfg: flags.Recipe = None,
    output: flags.Output = None,
    tag: flags.Tag = None,
    resume: flags.Resume = None,
    init: flags.Init = None,
    data_changed: flags.DataChanged = False,
    gpu: flags.Gpu = None,
    gpus: flags.Gpus = None,
    tensorboard: flags.TensorBoard = False,
    evaluate_only: flags.EvaluateOnly = False,
    amp: flags.Amp = False,
    precision: flags.Precision = None,
    opt_level: flags.OptLevel = None,
    deterministic: flags.Deterministic = False,
    overfit: flags.Overfit = None,
    dry_run: flags.DryRun = False,
    profile: flags.Profile = 0,
    pairs: flags.Pairs = None,
) -> None:
    """Train a network and evaluate its best checkpoint."""
    settings = flags.precision(amp, precision, opt_level)
    settings += ["TRAIN.DETERMINISTIC", "true"] if deterministic else []
    settings += ["TRAIN.TENSORBOARD", "true"] if tensorboard else []
    settings += ["TRAIN.OVERFIT", str(overfit)] if overfit else []
    settings += flags.initial_weights(init, resume, pairs or [])
    settings += pairs or []
    config = _compose(context, dataset, output=output, tag=tag, pairs=settings)
    flags.choose_devices(gpu, several="" if gpus else "add --gpus {count}")
    start = flags.checkpoint_to_resume(resume or config.MODEL.get("RESUME") or None)
    if gpus is not None and failures.LAUNCHED not in os.environ:
        if "WORLD_SIZE" in os.environ:
            raise UserError("--gpus cannot be used under torchrun", "remove --gpus or torchrun")
        from ffreid.engine.distributed.launch import launch

        sys.exit(launch(gpus, context.obj))
    from ffreid import runner
    from ffreid.engine.defaults import facts
    from ffreid.engine.distributed import group

    if evaluate_only or config.get("EVAL_MODE"):
        runner.evaluate(config, weights=start if isinstance(start, Path) else None)
    elif dry_run:
        runner.dry_run(config, resume=start)
    else:
        with group.process_group(*facts(config)):
            runner.train(config, resume=start, profiled_steps=profile, data_changed=data_changed)
            runner.finish(config)


@app.command(name="eval", context_settings=flags.PAIRS)
def evaluate(
    context: typer.Context,
    dataset: flags.Dataset,
    root: flags.Root = None,
    cls: flags.Cls = None,
    objects: flags.Objects = None,
    cfg: flags.Recipe = None,
    output: flags.Output = None,
    tag: flags.Tag = None,
    checkpoint: flags.Checkpoint = None,
    gpu: flags.Gpu = None,
    pictures: flags.Pictures = 0,
    report: flags.Report = None,
    json: flags.JsonFile = None,
    test_gt: flags.TestGt = False,
    predictions: flags.Predictions = None,
    truth: flags.Truth = None,
    frames: flags.Frames = None,
    save_features: flags.SaveFeatures = None,
    features: flags.Features = None,
    rerank: flags.Rerank = False,
    precision: flags.TestPrecision = None,
    engine: flags.Engine = None,
    calibrate: flags.Calibrate = False,
    pairs: flags.Pairs = None,
) -> None:
    """Evaluate a checkpoint, ground-truth labels, saved features or predicted poses."""
    settings = ["TEST.PRECISION", precision] if precision else []
    settings += ["TEST.ENGINE", engine] if engine else []
    settings += pairs or []
    config = _compose(context, dataset, output=output, tag=tag, pairs=settings)
    flags.check_file(checkpoint, "checkpoint", "best.pth")
    flags.check_file(features, "features", "one written by --save-features")
    flags.choose_devices(
        gpu, several="launch with torchrun --nproc-per-node {count} -m ffreid eval …"
    )
    if predictions is not None:
        from ffreid.pose.evaluation import evaluate_predictions

        evaluate_predictions(config, predictions, gt=truth, frames=frames, json_file=json)
        return
    from ffreid import runner

    task_options: dict[str, Any] = {"use_gt": test_gt}
    if config.TASK == "reid":
        task_options = {"save_features": save_features, "features": features, "rerank": rerank}
    task_options |= {"report_file": report, "calibrate": calibrate}
    if checkpoint is None and (resume := config.MODEL.get("RESUME")):
        checkpoint = Path(resume)
    runner.evaluate(
        config,
        weights=checkpoint,
        json_file=json,
        pictures=pictures,
        **task_options,
    )


@app.command(
    context_settings=flags.PAIRS, epilog="See also: ffreid data cache, which makes loading faster."
)
def data(
    context: typer.Context,
    dataset: flags.Dataset,
    root: flags.Root = None,
    cls: flags.Cls = None,
    objects: flags.Objects = None,
    cfg: flags.Recipe = None,
    json: flags.JsonFile = None,
    check: flags.Check = False,
    show: flags.Show = 0,
    output: flags.Samples = None,
    pairs: flags.Pairs = None,
) -> None:
    """Check a dataset and compare the size of each split with the published numbers.

    Example: ffreid data --dataset ltcc --root /data --check --show 8
    """
    config = _compose(context, dataset, pairs=pairs or [])
    from ffreid import runner

    mistakes = 0
    if check:
        mistakes = runner.check_dataset(config, json_file=json)
    else:
        runner.describe_dataset(config, json_file=json)
    if show:
        runner.draw_samples(config, show, folder=output)
    if mistakes:
        raise typer.Exit(1)


@app.command(name="data cache", context_settings=flags.PAIRS)
def data_cache(
    context: typer.Context,
    dataset: flags.Dataset,
    root: flags.Root = None,
    cls: flags.Cls = None,
    objects: flags.Objects = None,
    cfg: flags.Recipe = None,
    out: Annotated[
        Path | None, option("Folder for the cache; default: beside the data.", panel=flags.DATA)
    ] = None,
    pairs: flags.Pairs = None,
) -> None:
    """Keep resized pictures, or depth and normals, so that training loads them faster."""
    config = _compose(context, dataset, pairs=pairs or [])
    from ffreid import runner

    runner.fill_cache(config, out=out)


@app.command()
def smoke(
    keep: Annotated[Path | None, option("Folder in which to keep data and images.")] = None,
    json: flags.JsonFile = None,
) -> None:
    """Test the installation on synthetic data and print a table of the checks."""
    from ffreid.smoke import smoke as run

    if not run(keep=keep, json_file=json):
        raise typer.Exit(1)


@app.command()
def runs(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[plot] FOLDER", help="Run folders, or folders that contain them."),
    ],
    output: Annotated[Path | None, option("PNG file that plot writes.")] = None,
    json: flags.JsonFile = None,
) -> None:
    """List runs with their state, best metric and differing settings, or plot them."""
    if arguments[0] != "plot":
        if output is not None:
            raise UserError("--output has no effect without plot", "remove --output")
        from ffreid.engine.tracking.runs import list_runs

        list_runs([Path(folder) for folder in arguments], json_file=json)
        return
    if not arguments[1:] or json is not None:
        raise UserError(
            "plot needs at least one folder and does not support --json",
            "use ffreid runs plot FOLDER...",
        )
    from ffreid.engine.tracking.plot import default_file, plot_runs

    folders = [Path(folder) for folder in arguments[1:]]
    log(f"curves written to {plot_runs(folders, file=output or default_file(folders))}")


@app.command(name="convert-ckpt", context_settings=flags.PAIRS)
def convert_checkpoint(
    old: Annotated[
        Path,
        typer.Argument(
            metavar="OLD", help="Checkpoint of FFB6D, Simple-CCReID, a fork of either, or ffreid."
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NEW] [KEY VALUE]",
            help="Output file, and settings that are not in the checkpoint.",
            callback=flags.accept_negative_numbers,
        ),
    ] = None,
    force: Annotated[bool, option("Overwrite an existing file.", "--force")] = False,
    dry_run: Annotated[bool, option("Describe the checkpoint only.", "--dry-run")] = False,
    check: Annotated[bool, option("Load it and run a forward pass.", "--check")] = False,
    to: Annotated[str, option("Format to write: ffreid, original or safetensors.")] = "ffreid",
    legacy: Annotated[
        bool, option("With --to original: for PyTorch before 1.6.", "--legacy")
    ] = False,
    weights: Annotated[str, option("Weights to convert if there are several, e.g. ema.")] = "",
    trust_pickle: Annotated[
        bool, option("Allow code in the file; only if you trust it.", "--trust-pickle")
    ] = False,
) -> None:
    """Describe a checkpoint and convert it to ffreid's or the original authors' format."""
    flags.check_file(old, "checkpoint", "FFB6D_best.pth.tar")
    rest = arguments or []
    flags.check_pairs_after_file(rest)
    from ffreid.convert import convert

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


@app.command(context_settings=flags.PAIRS | {"allow_interspersed_args": False})
def migrate(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND", help="Old command (quotes are optional), or a shell script."
        ),
    ],
) -> None:
    """Translate an old command or script of FFB6D or Simple-CCReID, with notes on changes."""
    from ffreid.migrate import print_migration

    print_migration(command)


@app.command()
def bench(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Task to benchmark: pose or reid.")],
    quick: Annotated[bool, option("Use small inputs, few repetitions.", "--quick")] = False,
    device: Annotated[str, option("Device to measure: cpu or cuda.")] = "cpu",
    json: flags.JsonFile = None,
) -> None:
    """Benchmark each stage; optimised stages also against their plain form, in turn."""
    if task not in ("pose", "reid"):
        raise UserError(f"unknown task {task!r}", "use ffreid bench pose or ffreid bench reid")
    from ffreid.bench import bench as run

    run(task, quick=quick, device=device, json_file=json)


commands.register(app)


def _compose(context: typer.Context, dataset: str, **overrides: Any) -> Any:
    from ffreid import tasks
    from ffreid.recipes import compose

    data = {name: context.params[name] for name in ("root", "cls", "objects")}
    if (file := context.params["cfg"]) is not None:
        overrides["file"] = Path(file)
    config = compose(dataset, **data, **overrides)
    options = {p.opts[0]: context.params.get(str(p.name)) for p in context.command.params}
    flags.check_options(config.TASK, dataset, options)
    if not options.get("--features"):  # saved features need no images
        tasks.defaults(config.TASK).check_root(config)
    return config


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"ffreid {__version__}\n")
        raise typer.Exit


@app.callback()
def root_options(
    version: Annotated[
        bool,
        option("Print the version.", "--version", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """FFB6D 6D object pose estimation and CAL clothes-changing person re-identification."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 (bug or failed check), or see `failures.exit_with`."""
    if "RANK" in os.environ:  # torch's warnings of lost connections are dozens of lines
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # typer bundles its own click, which can't be imported by name.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        code = typer.main.get_command(app).main(
            args=arguments,
            prog_name="ffreid",
            standalone_mode=False,
            obj=sys.argv[1:] if arguments is None else arguments,
        )
    except usage_error as error:
        failures.exit_with(_as_user_error(error))
    except typer.Abort:
        failures.exit_with(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:
        failures.exit_with(_path_error(error) or error)
    if code == failures.INTERRUPTED:  # typer's own code for Ctrl-C; older versions raise Abort
        failures.exit_with(KeyboardInterrupt())
    sys.exit(code if isinstance(code, int) else 0)


def _path_error(error: BaseException) -> UserError | None:
    """The error for a path that the system refuses: too long, not permitted, on a broken disk."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return None
    hint = "use another path, or check its permissions and its disk"
    return UserError(f"cannot use {error.filename}: {error.strerror}", hint)


def _as_user_error(error: Any) -> UserError:
    text = flat(error.format_message()).rstrip(".") or "no command"
    guess = re.search(r"\.? (Did you mean|\(Possible options:) '?([\w-]+)", text)
    where = error.ctx.command_path if error.ctx else "ffreid"
    hint = f"did you mean {guess[2]}?" if guess else f"see {where} --help"
    message = text[: guess.start()] if guess else text
    return UserError(message[0].lower() + message[1:], hint)
