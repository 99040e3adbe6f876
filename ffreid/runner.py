"""Train and evaluate from a configuration, in one process or in a process group.

Linux is supported in full. On macOS and Windows ffreid can be imported, evaluate, and train in a
single process; several processes are not tested there, and Windows refuses them.
"""

import gc
import signal
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from yacs.config import CfgNode

from ffreid import atomic, convert, report, tasks
from ffreid.engine import cache, memory, precision, signals, synthetic
from ffreid.engine.checkpoints.io import DoesNotFit
from ffreid.engine.checkpoints.manager import latest_valid
from ffreid.engine.defaults import facts
from ffreid.engine.distributed import failures, group
from ffreid.engine.distributed.group import World
from ffreid.engine.dry_run import show as show_dry_run
from ffreid.engine.loading import worker_errors
from ffreid.engine.tracking import run_lock, tensorboard
from ffreid.engine.tracking.run_folder import check_no_run, create_folder
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError

Resume = Path | Literal["auto"] | None


def run_folder(cfg: CfgNode) -> Path:
    """``<output>/<dataset>/<tag>``."""
    return Path(cfg.OUTPUT, cfg.DATASET, cfg.TAG)


@contextmanager
def _processes(cfg: CfgNode, **options: Any) -> Iterator[World]:
    """What every run works in: its processes, their errors, torch's switches, freed memory."""
    with (
        group.process_group(*facts(cfg, **options)) as world,
        worker_errors(),
        precision.flags(cfg),
        memory.keep_freed(),
    ):
        yield world


def train(
    cfg: CfgNode,
    *,
    resume: Resume = None,
    stop_at: int | None = None,
    profiled_steps: int = 0,
    data_changed: bool = False,
) -> Path:
    """Train, evaluate at the configured interval, keep the best and the last state in a folder.

    Args:
        cfg: configuration.
        resume: checkpoint to resume from, with bitwise the result of an uninterrupted run; "auto"
            is the run's latest, which processes restarted by torchrun use in any case.
        stop_at: save and return after this many steps; None trains to the end.
        profiled_steps: number of steps to trace with torch's profiler.
        data_changed: resume even if the data differ from those before.

    Returns the run folder; `Stopped` is raised by a signal, after saving.
    """
    folder = run_folder(cfg)
    if cfg.TRAIN.TENSORBOARD:
        tensorboard.check_available()
    with (
        _processes(cfg) as world,
        run_lock.lock(create_folder(folder)) if world.is_main else nullcontext(),
    ):
        origin, state = _load_resumed(cfg, resume, world)
        if world.is_main and (state is None or Path(origin).parent.resolve() != folder.resolve()):
            is_restart = state is None and (resume == "auto" or group.restarted())
            check_no_run(folder, is_restart=is_restart)
        trainer = _build_trainer(cfg, world, resume, origin, state, data_changed=data_changed)
        del state
        trainer.fit(stop_at, profiled_steps=profiled_steps)
        group.barrier()  # rank 0 may still be saving
        return folder


def dry_run(cfg: CfgNode, *, resume: Resume = None) -> dict[str, Any]:
    """Build everything, run one training step and one evaluation batch, and print their cost.

    Writes nothing except toy data, in a temporary folder.
    """
    if cfg.TRAIN.TENSORBOARD:
        tensorboard.check_available()
    with (
        tempfile.TemporaryDirectory(prefix="ffreid-dry-run-") as temporary,
        _processes(cfg) as world,
    ):
        origin, state = _load_resumed(cfg, resume, world)
        toy_folder = tasks.modules(cfg.TASK).sources.synthetic_folder(cfg)
        if toy_folder is not None and not (toy_folder / synthetic.INFO_FILE).is_file():
            cfg = cfg.clone()
            cfg.defrost()
            cfg.DATA.ROOT = temporary
            cfg.freeze()
        trainer = _build_trainer(cfg, world, resume, origin, state)
        costs = trainer.dry_run()
        if world.is_main:
            show_dry_run(costs)
        return costs


def _build_trainer(
    cfg: CfgNode,
    world: World,
    resume: Resume,
    origin: str,
    state: dict[str, Any] | None,
    *,
    data_changed: bool = False,
) -> Trainer:
    """Build the trainer; of the run's own checkpoints, skip those that do not fit its network."""
    folder, skip = run_folder(cfg), list[Path]()
    while True:
        try:
            return Trainer(
                cfg,
                world,
                tasks.modules(cfg.TASK),
                folder,
                state=state,
                origin=origin,
                data_changed=data_changed,
            )
        except DoesNotFit as error:
            if state is None or str(resume) == origin:
                raise
            if world.is_main:
                report.log(f"note: skipped: {error.message}")
            skip.append(Path(origin))
            origin, state = _load_resumed(cfg, resume, world, skip)


def _load_resumed(
    cfg: CfgNode, resume: Resume, world: World, skip: Collection[Path] = ()
) -> tuple[str, dict[str, Any] | None]:
    """Load the checkpoint to resume from: its path and state, or "" and None."""
    folder = run_folder(cfg)
    log = report.log if world.is_main else lambda text: None
    if resume == "auto" or group.restarted():
        if latest := latest_valid(folder, log, skip=skip):
            path, state = latest
            log(f"resuming from {path}, step {state['step']}")
            return str(path), state
        if resume is None or resume == "auto":
            log(f"no checkpoint in {folder} yet: training from scratch")
    if resume is None or resume == "auto":
        return "", None
    return str(resume), convert.load_any(resume, cfg.TASK, log=world.is_main)


def finish(cfg: CfgNode) -> None:
    """Report the result of training, evaluating the best state if that has not been done.

    Raises:
        Stopped: by a signal; the training is complete and saved.
    """
    folder = run_folder(cfg)

    def stopped(received: signal.Signals) -> signals.Stopped:
        return signals.Stopped(
            received,
            f"by {received.name} during the evaluation after training; the trained "
            f"checkpoints are in {folder}",
            "evaluate with ffreid eval and the same --dataset and --tag",
        )

    with _processes(cfg) as world:
        catcher = signals.SignalCatcher(
            should_report=lambda: world.is_main and not failures.group_has_failed()
        )
        with signals.catch_signals(catcher), catcher.stop_immediately(stopped):
            tasks.modules(cfg.TASK).validation.finish(cfg, world, folder)


def evaluate(
    cfg: CfgNode,
    *,
    weights: Path | None = None,
    json_file: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a checkpoint, print the table, write results and images.

    By default the checkpoint is the run folder's best, or last if there is no best. The results
    are returned as JSON data and also written to `json_file`; `options` are those of the task's
    ``evaluation.evaluate``.
    """
    with _processes(cfg, **options) as world:
        if json_file is not None and world.is_main:
            atomic.check_writable(json_file)
        folder = run_folder(cfg)
        if weights is None and not (options.get("use_gt") or options.get("features")):
            files = [folder / name for name in ("best.pth", "last.pth")]
            weights = next(filter(Path.is_file, files), None)
            if weights is None:
                raise UserError(
                    f"no checkpoint in {folder}", "use --checkpoint FILE, or train first"
                )
        return tasks.evaluate(
            cfg, world, folder=folder, weights=weights, json_file=json_file, **options
        )


def check_dataset(cfg: CfgNode, *, json_file: Path | None = None) -> int:
    """Read all of a dataset, print its mistakes, and return how many there are."""
    if json_file is not None:
        atomic.check_writable(json_file)
    findings = tasks.check_dataset(cfg)
    findings.show()
    if json_file is not None:
        atomic.write_json(json_file, findings.payload())
    return findings.wrong()


def draw_samples(cfg: CfgNode, count: int, *, folder: Path | None = None) -> Path:
    """Draw `count` samples in `folder`, by default ``<output>/<dataset>/samples``."""
    folder = folder or Path(cfg.OUTPUT, cfg.DATASET, "samples")
    names = tasks.draw_samples(cfg, count, folder)
    report.log(f"{len(names)} images written to {folder}")
    return folder


def describe_dataset(cfg: CfgNode, *, json_file: Path | None = None) -> dict[str, Any]:
    """Print the contents of each split of the dataset, with the published counts."""
    if json_file is not None:
        atomic.check_writable(json_file)
    gc.disable()  # it takes a third of the time, by visiting a large dataset's records again
    try:
        source = tasks.modules(cfg.TASK).sources.open_source(cfg)
        return tasks.dataset_report(cfg, source, json_file)
    finally:
        gc.enable()


def fill_cache(cfg: CfgNode, *, out: Path | None = None) -> Path:
    """Fill the cache of the dataset, in `out` or where DATA.CACHE says; return its folder."""
    where = str(out or cfg.DATA.CACHE)
    if where == "none":
        raise UserError("DATA.CACHE none uses no cache", "use --out FOLDER")
    with worker_errors():
        source = tasks.modules(cfg.TASK).sources.open_source(cfg)
        workers = cfg.DATA.NUM_WORKERS if cfg.TASK == "reid" else cfg.DATA.WORKERS
        folder = cache.fill(tasks.cache_plan(cfg, source), where, workers)
    setting = f", with DATA.CACHE {where}" if where else ""
    report.log(f"cache: complete; train and eval use it where the settings are the same{setting}")
    return folder
