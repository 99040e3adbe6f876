"""From a configuration to a training or an evaluation run, one process or many."""

import signal
import tempfile
from pathlib import Path
from typing import Any, Literal

from yacs.config import CfgNode

from ffreid import atomic, convert, report, tasks
from ffreid.engine import precision, signals, synthetic
from ffreid.engine.checkpoints.manager import latest_valid
from ffreid.engine.distributed import failures, group
from ffreid.engine.distributed.group import World
from ffreid.engine.dry_run import show as show_dry_run
from ffreid.engine.loading import worker_errors
from ffreid.engine.tracking import run_folder as run_folders
from ffreid.engine.tracking import tensorboard
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError


def run_folder(cfg: CfgNode) -> Path:
    """``<output>/<dataset>/<tag>``."""
    folder: Path = Path(cfg.OUTPUT) / cfg.DATASET / cfg.TAG
    return folder


def train(
    cfg: CfgNode,
    *,
    resume: Path | Literal["auto"] | None = None,
    stop_at: int | None = None,
    profiled_steps: int = 0,
) -> Path:
    """Train, evaluate at the authors' rhythm, keep the best and the last state.

    Args:
        cfg: frozen configuration.
        resume: checkpoint to go on from, bitwise as if never interrupted; ``auto`` finds it. A
            process that torchrun has started again finds it by itself.
        stop_at: stop after this many steps, saved, to go on later; None trains to the end.
        profiled_steps: trace so many steps with torch's profiler.

    Returns:
        The run folder.

    Raises:
        UserError: data, checkpoint or folder cannot be used.
        Stopped: a signal asked for it; all is saved.
    """
    folder = run_folder(cfg)
    if cfg.TRAIN.TENSORBOARD:
        tensorboard.check_available()
    with group.process_group() as world, worker_errors(), precision.flags(cfg):
        origin, state = _found(cfg, resume, world)
        if world.is_main:
            if state is None or Path(origin).parent.resolve() != folder.resolve():
                _refuse_to_overwrite(folder)
            run_folders.create_folder(folder)
        trainer = Trainer(cfg, world, tasks.modules(cfg.TASK), folder, state=state, origin=origin)
        del state
        trainer.fit(stop_at, profiled_steps=profiled_steps)
        group.barrier()  # the first process may be saving still
        return folder


def dry_run(cfg: CfgNode, *, resume: Path | Literal["auto"] | None = None) -> dict[str, Any]:
    """Build everything, run one step and one batch of the evaluation, and print what they take.

    Nothing is written but toy data, to a folder that is removed again.

    Args:
        cfg: frozen configuration.
        resume: checkpoint that must fit, see `train`.
    """
    if cfg.TRAIN.TENSORBOARD:
        tensorboard.check_available()
    folder = run_folder(cfg)
    with (
        tempfile.TemporaryDirectory(prefix="ffreid-dry-run-") as place,
        group.process_group() as world,
        worker_errors(),
        precision.flags(cfg),
    ):
        origin, state = _found(cfg, resume, world)
        made_at = tasks.modules(cfg.TASK).sources.synthetic_folder(cfg)
        if made_at is not None and not (made_at / synthetic.INFO_FILE).is_file():
            cfg = cfg.clone()
            cfg.defrost()
            cfg.DATA.ROOT = place
            cfg.freeze()
        trainer = Trainer(cfg, world, tasks.modules(cfg.TASK), folder, state=state, origin=origin)
        found = trainer.dry_run()
        if world.is_main:
            show_dry_run(found)
        return found


def _found(
    cfg: CfgNode, resume: Path | Literal["auto"] | None, world: World
) -> tuple[str, dict[str, Any] | None]:
    """Give the checkpoint to go on from and where it is from."""
    folder = run_folder(cfg)
    if resume == "auto" or group.restarted():
        say = report.log if world.is_main else lambda text: None
        if (found := latest_valid(folder, say)) is not None:
            say(f"going on from {found[0]}, step {found[1]['step']}")
            return str(found[0]), found[1]
        if resume is None or resume == "auto":
            say(f"no checkpoint in {folder} yet: starting anew")
    if resume is None or resume == "auto":
        return "", None
    return str(resume), convert.load_any(Path(resume), cfg.TASK, say=world.is_main)


def finish(cfg: CfgNode) -> None:
    """Say what training has come to, evaluating its best state where that was not done yet.

    Raises:
        Stopped: a signal asked for it; training itself has ended and is saved.
    """
    folder = run_folder(cfg)

    def stopped(received: signal.Signals) -> signals.Stopped:
        return signals.Stopped(
            received,
            f"by {received.name} in the evaluation after training, which is saved in {folder}",
            "evaluate with ffreid eval, the same data set and --tag",
        )

    with (
        group.process_group() as world,
        worker_errors(),
        precision.flags(cfg),
        signals.catch_signals(
            verbose=world.is_main, run_has_failed=failures.group_has_failed
        ) as watch,
        watch.stop_immediately(stopped),
    ):
        tasks.finish(cfg.TASK, cfg, world, folder)


def evaluate(
    cfg: CfgNode,
    *,
    weights: Path | None = None,
    json_file: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a checkpoint, print the table, write results and pictures.

    Args:
        cfg: frozen configuration.
        weights: checkpoint; by default the run folder's best, else last.
        json_file: write the results there too.
        options: the task's own, see its ``evaluation.evaluate``.

    Returns:
        The results as plain data.

    Raises:
        UserError: data, checkpoint or folder cannot be used.
    """
    with group.process_group() as world, worker_errors(), precision.flags(cfg):
        room = tasks.evaluation(cfg.TASK)
        if json_file is not None and world.is_main:
            atomic.check_writable(json_file)
        folder = run_folder(cfg)
        if weights is None and room.needs_weights(options):
            weights = _newest(folder)
        results: dict[str, Any] = room.evaluate(
            cfg, world, folder=folder, weights=weights, json_file=json_file, **options
        )
        return results


def describe_dataset(cfg: CfgNode, *, json_file: Path | None = None) -> dict[str, Any]:
    """Print what the data set holds, split by split, beside the published counts."""
    if json_file is not None:
        atomic.check_writable(json_file)
    source = tasks.modules(cfg.TASK).sources.open_source(cfg)
    return tasks.dataset_report(cfg.TASK, cfg.DATASET, source, json_file)


def _newest(folder: Path) -> Path:
    for name in ("best.pth", "last.pth"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no checkpoint in {folder}", "name one with --checkpoint FILE, or train first")


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / "last.pth").is_file():
        raise UserError(
            f"{folder} holds a run already",
            "go on with --resume auto, or name a new one with --tag NAME",
        )
