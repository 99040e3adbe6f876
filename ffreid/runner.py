"""From a configuration to a training or an evaluation run, one process or many."""

import importlib
import time
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import report
from ffreid.config import differing
from ffreid.engine import checkpoint, dist, runlog
from ffreid.engine.dist import World
from ffreid.engine.epochs import EpochSums, timed
from ffreid.engine.loading import StepKeys, deaths_told, stream
from ffreid.engine.loop import Plan, Progress, Trainer, Validation
from ffreid.engine.resume import check_resumable
from ffreid.errors import UserError

SELECTING = "TEST.SELECT"
"""How settings begin that say by which number the best state is chosen."""


def run_folder(cfg: CfgNode) -> Path:
    """``<output>/<dataset>/<tag>``."""
    folder: Path = Path(cfg.OUTPUT) / cfg.DATASET / cfg.TAG
    return folder


def train(cfg: CfgNode, *, resume: Path | None = None, stop_at: int | None = None) -> Path:
    """Train, evaluate at the authors' rhythm, keep the best and the last state.

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
        state = checkpoint.load(resume) if resume else None
        if world.main:
            _refuse_to_overwrite(self.folder, resume)
            runlog.open_folder(self.folder)
        self.room, self.validation = _room(cfg, "setup"), _room(cfg, "validation")
        self.source = dist.in_turn(lambda: self.room.open_source(cfg))
        self.room.check_source(cfg, self.source)
        self.classes = self.room.class_names(self.source)
        self.data = self.room.training_set(cfg, self.source)
        self.plan: Plan = self.room.plan(cfg, self.data)
        if state is not None:
            self._check_resumable(state, str(resume))
        task = dist.in_turn(
            lambda: self.room.build_task(cfg, self.source, world.device, resumed=state is not None)
        )
        self.rates = self.room.rates(cfg, self.plan)
        self.trainer = Trainer(
            task,
            self.room.build_optimisers(cfg, task),
            self.rates,
            device=world.device,
            dtype=self.room.dtype(cfg),
            half=self.room.half(cfg, world.device),
            seed=cfg.SEED,
            rank=world.rank,
        )
        self.start = 0
        self.best: float | None = None
        self.measured: dict[str, float] = {}
        if state is not None:
            self._take_back(state)

    def _check_resumable(self, state: dict[str, Any], origin: str) -> None:
        check_resumable(
            state,
            origin,
            self.cfg,
            classes=self.classes,
            total=self.plan.total,
            free=self.room.FREE_TO_CHANGE,
        )

    def _take_back(self, state: dict[str, Any]) -> None:
        self.trainer.load_state(state)
        self.start, self.measured = state["step"], state.get("measured", {})
        changed = [key for key, *_ in differing(self.cfg, state["config"])]
        # Numbers of another kind don't compare.
        same = not any(key.startswith(SELECTING) for key in changed)
        if same and (self.folder / "best.pth").is_file():
            self.best = state["best"]

    def fit(self, stop_at: int | None) -> Path:
        """Train from the start step to the last, or to `stop_at`."""
        world, plan = self.world, self.plan
        end = plan.total if stop_at is None else min(stop_at, plan.total)
        if world.main:
            self._tell_start()
        keys = StepKeys(
            start=self.start,
            total=end,
            steps_per_epoch=plan.steps_per_epoch,
            batch=plan.batch,
            rank=world.rank,
            size=world.size,
        )
        batches = stream(self.data, keys, self.room.collate, workers=plan.workers)
        epoch = EpochSums()
        with report.Bar("training", plan.total, show=world.main) as bar:
            for step, (batch, waited) in zip(keys.steps, timed(batches), strict=True):
                epoch.add(self._step(step, batch, bar), waited)
                ends = (step + 1) % plan.steps_per_epoch == 0
                if ends:
                    self._tell_epoch(step // plan.steps_per_epoch, epoch)
                self._keep(step + 1)
                epoch = EpochSums() if ends else epoch
        if self.start < end < plan.total:
            self._save("last.pth", end)
        if self.start == plan.total and not (self.folder / "last.pth").is_file():
            self._validate(plan.total)  # a finished run under another name
        return self.folder

    def _tell_start(self) -> None:
        cfg, world, plan = self.cfg, self.world, self.plan
        facts = runlog.provenance(cfg.SEED, world.size, str(world.device))
        facts |= {"data": self.source.summary(), "resumed_at": self.start or None}
        runlog.write_start(self.folder, cfg, facts)
        runlog.drop_metrics_from(self.folder, self.start)
        runlog.keep_lines(self.folder, self.start // plan.steps_per_epoch)
        report.say(
            f"training {cfg.DATASET}: {plan.total} steps of {plan.batch} samples, "
            f"{plan.steps_per_epoch} an epoch, "
            f"{world.size} process{'es' if world.size > 1 else ''} on {world.device.type}, "
            f"in {self.folder}"
        )
        report.say(f"data: {self.source.summary()}")
        for line in self.room.notes(cfg, self.source):
            report.say(f"note: {line}")

    def _tell_epoch(self, number: int, epoch: EpochSums) -> None:
        if not self.world.main:
            return
        line = self.validation.epoch_line(epoch.means(), number, epoch.seconds, epoch.waited)
        if line is not None:
            report.say(line)
            runlog.append_line(self.folder, line)
        # Lines of metrics.jsonl are of some steps only.
        if broken := epoch.sums.get("broken"):
            report.say(
                f"note: epoch {number + 1}: {broken:.0f} files could not be read, others took "
                "their places"
            )

    def _step(self, step: int, batch: Any, bar: report.Bar) -> dict[str, float]:
        started = time.monotonic()
        done = step + 1
        terms = self.trainer.step(batch, self._at(step))
        if self.world.main:
            rate = self.rates["net"](step)
            bar.update(done, note=f"loss {terms['loss']:.4f} lr {rate:.1e}")
            if done % self.cfg.TRAIN.LOG_EVERY == 0 or done == self.plan.total or step == 0:
                row = {"step": done, "epoch": step // self.plan.steps_per_epoch, "lr": rate}
                row |= {"seconds": time.monotonic() - started}
                runlog.append_metrics(self.folder, row | {f"train/{k}": terms[k] for k in terms})
        return terms

    def _keep(self, done: int) -> None:
        """After a step: validate or save where it is time to."""
        if done == self.plan.total or self.validation.due(self.cfg, self.plan, done):
            self._validate(done)
        elif done % self.cfg.TRAIN.SAVE_EVERY == 0:
            self._save("last.pth", done)

    def _at(self, step: int) -> Progress:
        return Progress(step, self.plan.total, step // self.plan.steps_per_epoch)

    def _validate(self, done: int) -> None:
        """Evaluate; keep the best state, judged over all processes."""
        found: Validation = self.validation.validate(
            self.cfg, self.world, self.source, self.trainer, self._at(done - 1)
        )
        better = found.better_than(self.best)
        self.measured = dict(found.kept)
        if better:
            self.best = found.value
        if self.world.main:
            row = {"step": done} | {f"validation/{name}": found.row[name] for name in found.row}
            runlog.append_metrics(self.folder, row)
            if found.results is not None:
                facts = {"step": done, "epoch": self._at(done - 1).epoch + 1, **found.results}
                for name in ("last", "best") if better else ("last",):
                    report.write_json(self.folder / f"validation-{name}.json", facts)
        # In this order: killed between the two, a resumed run comes by here once more.
        if better:
            self._save("best.pth", done, weights_only=True)
        self._save("last.pth", done)

    def _save(self, name: str, done: int, *, weights_only: bool = False) -> None:
        if not self.world.main:
            return
        epoch = self._at(done - 1).epoch
        state = self.trainer.state() | {
            "task": self.cfg.TASK,
            "dataset": self.cfg.DATASET,
            "classes": self.classes,
            "step": done,
            "total": self.plan.total,
            "best": self.best,
            "measured": self.measured,
            "config": self.cfg.dump(),
            **self.room.original_entries(self.trainer, epoch, self.measured),
        }
        if weights_only:
            del state["optimisers"]
        checkpoint.save(self.folder / name, state)


def finish(cfg: CfgNode) -> None:
    """Say what training has come to, evaluating its best state where that was not done yet."""
    with dist.joined() as world, deaths_told():
        _room(cfg, "validation").finish(cfg, world, run_folder(cfg))


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
    with dist.joined() as world, deaths_told():
        room = _room(cfg, "evaluation")
        if json_file is not None and world.main:
            report.check_writable(json_file)
        folder = run_folder(cfg)
        if weights is None and room.needs_weights(options):
            weights = _newest(folder)
        results: dict[str, Any] = room.evaluate(
            cfg, world, folder=folder, weights=weights, json_file=json_file, **options
        )
        return results


def count(cfg: CfgNode, *, json_file: Path | None = None) -> dict[str, Any]:
    """Print what the data set holds, split by split, beside the published counts."""
    if json_file is not None:
        report.check_writable(json_file)
    source = _room(cfg, "setup").open_source(cfg)
    found: dict[str, Any] = _room(cfg, "statistics").tell(cfg.DATASET, source, json_file)
    return found


def _room(cfg: CfgNode, name: str) -> Any:
    """A module of the task's."""
    return importlib.import_module(f"ffreid.{cfg.TASK}.{name}")


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
