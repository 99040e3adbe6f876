"""From a configuration to a training or an evaluation run, one process or many."""

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import report
from ffreid.config import differing
from ffreid.engine import checkpoint, dist, runlog
from ffreid.engine.dist import World
from ffreid.engine.loading import StepKeys, deaths_told, evaluation_stream, stream
from ffreid.engine.loop import Progress, Trainer
from ffreid.engine.schedules import triangular, validation_due
from ffreid.errors import UserError

FREE_TO_CHANGE = (
    "OUTPUT",
    "TAG",
    "DATA.ROOT",
    "DATA.WORKERS",
    "MODEL.BACKBONE",
    "TRAIN.EVAL_POSES",
    "TRAIN.LOG_EVERY",
    "TRAIN.SAVE_EVERY",
    "TEST.",
    "VOTE.",
)
"""Settings that a resumed run may have otherwise: they don't change what is trained."""


def run_folder(cfg: CfgNode) -> Path:
    """``<output>/<dataset>/<tag>``."""
    folder: Path = Path(cfg.OUTPUT) / cfg.DATASET / cfg.TAG
    return folder


def train(cfg: CfgNode, *, resume: Path | None = None, stop_at: int | None = None) -> Path:
    """Train, validate at the authors' rhythm, keep the best and the last state.

    Args:
        cfg: frozen configuration.
        resume: checkpoint to go on from, bitwise as if never interrupted.
        stop_at: stop after this many steps, saved, to go on later; None trains to the end.

    Returns:
        The run folder.

    Raises:
        UserError: data, checkpoint or folder cannot be used.
    """
    with dist.joined() as world, deaths_told():
        folder = _Run(cfg, world, resume).fit(stop_at)
        dist.meet()  # the first process may be saving still
        return folder


class _Run:
    """What one training run holds; `fit` is the loop."""

    def __init__(self, cfg: CfgNode, world: World, resume: Path | None) -> None:
        self.cfg, self.world, self.folder = cfg, world, run_folder(cfg)
        self.state = checkpoint.load(resume) if resume else None
        if world.main:
            _refuse_to_overwrite(self.folder, resume)
            runlog.open_folder(self.folder)
        self.room = importlib.import_module(f"ffreid.{cfg.TASK}.setup")
        self.source = dist.in_turn(lambda: self.room.open_source(cfg))
        self.data = self.room.training_set(cfg, self.source)
        if cfg.TRAIN.EVAL_POSES:
            self.room.check_evaluation(self.source)
        batch = cfg.TRAIN.BATCH
        self.steps_per_epoch = max(1, len(self.data) // batch)
        self.total = cfg.TRAIN.STEPS or max(1, cfg.TRAIN.EPOCHS * len(self.data) // batch)
        task = dist.in_turn(self._build)
        optimisers = self.room.build_optimisers(cfg, task)
        self.trainer = Trainer(
            task,
            optimisers,
            dict.fromkeys(optimisers, self.rate),
            device=world.device,
            dtype=self.room.dtype(cfg),
            seed=cfg.SEED,
            rank=world.rank,
        )
        self.start, self.best = 0, float("inf")
        if self.state is not None:
            self._take_back(self.state, str(resume))
            self.state = None  # as large as the network and its optimiser

    def _build(self) -> Any:
        return self.room.build_task(
            self.cfg, self.source.objects, self.world.device, resumed=self.state is not None
        )

    def rate(self, step: int) -> float:
        """Learning rate of step `step`: the authors' scheduler lags one step behind."""
        train = self.cfg.TRAIN
        return triangular(
            max(0, step - 1),
            low=train.LR_MIN,
            high=train.LR_MAX,
            half_period=self.total // train.CYCLE_DIVISOR,
        )

    def _take_back(self, state: dict[str, Any], origin: str) -> None:
        for name in ("step", "best", "parts", "optimisers", "classes", "total", "config"):
            if name not in state:
                raise UserError(f"{origin} holds no {name}", "resume from a last.pth of ours")
        if state.get("task") != self.cfg.TASK:
            raise UserError(
                f"{origin} is of the task {state.get('task')}, {self.cfg.DATASET} of another",
                "resume a run of the same data set",
            )
        if state["classes"] != list(self.source.objects.names):
            raise UserError(
                f"{origin} knows other objects than {self.cfg.DATASET}",
                "resume a run of the same data set",
            )
        for key, then, now in differing(self.cfg, state["config"]):
            if not key.startswith(FREE_TO_CHANGE):
                raise UserError(
                    f"{origin} was trained with {key} {then}, this run has {now}",
                    f"go on with {key} {then}, or start anew with --tag NAME",
                )
        if state["total"] != self.total:
            raise UserError(
                f"{origin} is of a run of {state['total']} steps, this one has {self.total}",
                "the frame lists have changed: restore them, or start anew with --tag NAME",
            )
        self.trainer.load_state(state)
        self.start = state["step"]
        if (self.folder / "best.pth").is_file():
            self.best = state["best"]

    def fit(self, stop_at: int | None) -> Path:
        """Train from the start step to the last, or to `stop_at`."""
        cfg, world = self.cfg, self.world
        end = self.total if stop_at is None else min(stop_at, self.total)
        if world.main:
            facts = runlog.provenance(cfg.SEED, world.size, str(world.device))
            facts |= {"data": self.source.reader.summary(), "resumed_at": self.start or None}
            runlog.write_start(self.folder, cfg, facts)
            runlog.drop_metrics_from(self.folder, self.start)
            report.say(
                f"training {cfg.DATASET}: {self.total} steps of {cfg.TRAIN.BATCH} samples, "
                f"{world.size} process{'es' if world.size > 1 else ''} on {world.device.type}, "
                f"in {self.folder}"
            )
            report.say(f"data: {self.source.reader.summary()}")
        keys = StepKeys(
            start=self.start,
            total=end,
            steps_per_epoch=self.steps_per_epoch,
            batch=cfg.TRAIN.BATCH,
            rank=world.rank,
            size=world.size,
        )
        batches = stream(
            self.data,
            keys,
            self.room.collate,
            workers=cfg.DATA.WORKERS,
        )
        with report.Bar("training", self.total, show=world.main) as bar:
            for step, batch in zip(keys.steps, batches, strict=True):
                self._step(step, batch, bar)
        if self.start < end < self.total:
            self._save("last.pth", end)
        return self.folder

    def _step(self, step: int, batch: Any, bar: report.Bar) -> None:
        started = time.monotonic()
        done = step + 1
        terms = self.trainer.step(batch, self._at(step))
        last = done == self.total
        train = self.cfg.TRAIN
        if self.world.main:
            bar.update(done, note=f"loss {terms['loss']:.4f} lr {self.rate(step):.1e}")
            if done % train.LOG_EVERY == 0 or last or step == 0:
                row = {"step": done, "epoch": step // self.steps_per_epoch, "lr": self.rate(step)}
                row |= {"seconds": time.monotonic() - started}
                runlog.append_metrics(self.folder, row | {f"train/{k}": terms[k] for k in terms})
        if last or validation_due(done, total=self.total, windows=train.CYCLE_DIVISOR):
            self._validate(done)
        elif done % train.SAVE_EVERY == 0:
            self._save("last.pth", done)

    def _at(self, step: int) -> Progress:
        return Progress(step, self.total, step // self.steps_per_epoch)

    def _validate(self, done: int) -> None:
        """Measure the loss on test frames; keep the best state, judged over all processes."""
        terms = self.trainer.evaluate(self._validation_batches(), self._at(done))
        better = terms["loss"] < self.best
        self.best = min(self.best, terms["loss"])
        if self.world.main:
            row = {"step": done} | {f"validation/{name}": value for name, value in terms.items()}
            runlog.append_metrics(self.folder, row)
        # In this order: killed between the two, a resumed run comes by here once more.
        if better:
            self._save("best.pth", done, weights_only=True)
        self._save("last.pth", done)

    def _validation_batches(self) -> Iterator[Any]:
        cfg = self.cfg
        data = self.room.evaluation_set(cfg, self.source, cfg.TRAIN.VALIDATE_FRAMES)
        for batch, _ in evaluation_stream(
            data,
            self.room.collate_for_evaluation,
            batch=cfg.TEST.BATCH,
            workers=cfg.DATA.WORKERS,
            rank=self.world.rank,
            size=self.world.size,
        ):
            if batch is not None:
                yield batch

    def _save(self, name: str, done: int, *, weights_only: bool = False) -> None:
        if not self.world.main:
            return
        state = self.trainer.state() | {
            "task": self.cfg.TASK,
            "dataset": self.cfg.DATASET,
            "classes": list(self.source.objects.names),
            "step": done,
            "total": self.total,
            "best": self.best,
            "config": self.cfg.dump(),
        }
        if weights_only:
            del state["optimisers"]
        checkpoint.save(self.folder / name, state)


def evaluate(
    cfg: CfgNode,
    *,
    weights: Path | None = None,
    use_truth: bool = False,
    pictures: int = 0,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint (or the true labels), print the table, write results and pictures.

    Args:
        cfg: frozen configuration.
        weights: checkpoint; by default the run folder's best, else last.
        use_truth: vote with the true labels and offsets: checks data and voting.
        pictures: draw this many frames.
        json_file: write the results there too.

    Returns:
        The results as plain data.

    Raises:
        UserError: data, checkpoint or folder cannot be used.
    """
    with dist.joined() as world, deaths_told():
        room = importlib.import_module(f"ffreid.{cfg.TASK}.evaluation")
        if json_file is not None and world.main:
            report.check_writable(json_file)
        folder = run_folder(cfg)
        if not use_truth:
            weights = weights or _newest(folder)
        results: dict[str, Any] = room.evaluate(
            cfg,
            world,
            folder=folder,
            weights=weights,
            use_truth=use_truth,
            pictures=pictures,
            json_file=json_file,
        )
        return results


def _newest(folder: Path) -> Path:
    for name in ("best.pth", "last.pth"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no checkpoint in {folder}", "name one with --checkpoint FILE, or train first")


def _refuse_to_overwrite(folder: Path, resume: Path | None) -> None:
    if resume is None and (folder / "last.pth").is_file():
        raise UserError(
            f"{folder} holds a run already",
            f"go on with --resume {folder / 'last.pth'}, or name a new one with --tag NAME",
        )
