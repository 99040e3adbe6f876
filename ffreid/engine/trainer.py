"""The one loop: it steps a task, tells, evaluates, saves, and stops when it is asked to."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine import dry_run, modules, precision, profiler, signals
from ffreid.engine.checkpoints import repair
from ffreid.engine.checkpoints.io import load_weights
from ffreid.engine.checkpoints.manager import CheckpointManager, best_values, check_resumable
from ffreid.engine.distributed import failures, group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import OverfitDataset, StepKeys, group_by_step, stream
from ffreid.engine.task import (
    Plan,
    Progress,
    TaskModules,
    ValidationResult,
    check_selectable,
    trained_modules,
)
from ffreid.engine.tracking import run_folder
from ffreid.engine.tracking.logger import RunLogger
from ffreid.engine.tracking.progress import Best, StepRecord
from ffreid.engine.train_step import AverageMeter, Stepped, TrainStep, timed
from ffreid.errors import UserError

SELECTING = ("TEST.SELECT", "TRAIN.SELECT")
"""How settings begin that say by which number the best state is chosen."""
SHOWN = 8
"""Samples of a skipped step that are named on the screen."""


class Trainer:
    """What one training run holds; `fit` is the loop.

    Args:
        cfg: frozen configuration.
        world: this process among those that share the work.
        modules: the task's.
        folder: of the run.
        state: checkpoint to go on from.
        origin: its file, for messages.

    Raises:
        UserError: data or checkpoint cannot be used.
    """

    def __init__(
        self,
        cfg: CfgNode,
        world: World,
        modules: TaskModules,
        folder: Path,
        *,
        state: Mapping[str, Any] | None = None,
        origin: str = "",
    ) -> None:
        self.cfg, self.world, self.folder = cfg, world, folder
        self.sources, self.build = modules.sources, modules.build
        self.validation = modules.validation
        self.source = group.main_process_first(lambda: self.sources.open_source(cfg))
        self.sources.check_source(cfg, self.source)
        self.classes = self.sources.class_names(self.source)
        data = self.build.training_set(cfg, self.source)
        self.plan: Plan = self.build.plan(cfg, data)
        self.data = OverfitDataset(data, cfg.TRAIN.OVERFIT) if cfg.TRAIN.OVERFIT else data
        if state is not None:
            state = repair.completed(
                state,
                classes=self.classes,
                total=self.plan.total,
                steps_per_epoch=self.plan.steps_per_epoch,
            )
            self._check_resumable(state, origin)
        if cfg.TRAIN.SELECT:
            check_selectable(cfg.TRAIN.SELECT, self.validation.numbers(cfg, self.source))
        self.rates = self.build.rates(cfg, self.plan)
        self.train_step = self._trainer(resumed=state is not None)
        self.start = self.skipped = 0
        self.best: dict[str, Best] = {}
        self.measured: dict[str, float] = {}
        self.evaluation_pending = False
        self.lines = 0
        self.epoch = AverageMeter()
        self.saved: tuple[Path, int] | None = None
        if state is not None:
            self.saved = (Path(origin), state["step"])
            self._take_back(state, Path(origin))

    def _trainer(self, *, resumed: bool) -> TrainStep:
        cfg, device, train = self.cfg, self.world.device, self.cfg.TRAIN
        task = group.main_process_first(
            lambda: self.build.build_task(cfg, self.source, device, resumed=resumed)
        )
        precision.check_compiler(train.COMPILE)
        if train.CHANNELS_LAST:
            modules.channels_last(task)
        return TrainStep(
            task,
            self.build.build_optimisers(cfg, task),
            self.rates,
            device=device,
            dtype=precision.dtype(cfg),
            half=precision.half(cfg, device),
            seed=cfg.SEED,
            rank=self.world.rank,
            clip_norm=train.CLIP_NORM,
            average=train.EMA,
            backend=train.COMPILE,
        )

    def _check_resumable(self, state: Mapping[str, Any], origin: str) -> None:
        check_resumable(
            state,
            origin,
            self.cfg,
            classes=self.classes,
            total=self.plan.total,
            free=self.build.FREE_TO_CHANGE,
        )

    def _take_back(self, state: Mapping[str, Any], origin: Path) -> None:
        if "converted" in state:
            self._take_over(state, origin)
        self.train_step.load_state(state)
        self.start, self.measured = state["step"], state.get("measured", {})
        self.skipped, self.evaluation_pending = (
            state.get("skipped", 0),
            not state.get("evaluated", True),
        )
        self.epoch = AverageMeter(state.get("epoch_sums"))
        if origin.parent.resolve() == self.folder.resolve():
            self.lines = state.get("lines", self.start // self.plan.steps_per_epoch)
        changed = [key for key, *_ in differing(self.cfg, state["config"])]
        # Numbers of another kind don't compare.
        if not any(key.startswith(SELECTING) for key in changed):
            found = best_values(state).items()
            self.best = {n: best for n, best in found if (self.folder / f"{n}.pth").is_file()}

    def _take_over(self, state: Mapping[str, Any], origin: Path) -> None:
        """Refuse what does not fit of a checkpoint that others wrote, and say what it lacks."""
        for name, part in trained_modules(self.train_step.task).items():
            load_weights(part, state["parts"].get(name, {}), f"{origin}, its part {name},")
        if self.world.is_main and state["optimisers"].keys() != set(self.train_step.names):
            report.log(f"note: {origin} holds no state of the optimisers: they begin anew")

    def fit(self, stop_at: int | None = None, *, profiled_steps: int = 0) -> Path:
        """Train from the start step to the last, or to `stop_at`; give the run folder.

        Raises:
            UserError: a file cannot be read or written, or no step gives a finite loss any more.
            Stopped: by a signal, saved.
        """
        cfg, plan, world = self.cfg, self.plan, self.world
        end = plan.total if stop_at is None else min(stop_at, plan.total)
        keys = self._keys(self.start, end)
        self.manager = CheckpointManager(
            self.folder, every=cfg.TRAIN.KEEP_EVERY, keep=cfg.TRAIN.KEEP
        )
        if world.is_main:
            run_folder.start_run(
                cfg,
                world,
                plan,
                self.folder,
                summary=self.source.summary(),
                notes=self.sources.notes(cfg, self.source),
                start=self.start,
                evaluation_pending=self.evaluation_pending,
                lines=self.lines,
            )
        with (
            RunLogger(
                self.folder,
                plan,
                main=world.is_main,
                start=self.start,
                log_every=cfg.TRAIN.LOG_EVERY,
                tensorboard=cfg.TRAIN.TENSORBOARD,
            ) as self.logger,
            signals.catch_signals(
                verbose=world.is_main, run_has_failed=failures.group_has_failed
            ) as self.signals,
            profiler.profiled(profiled_steps * world.is_main, self.folder) as trace,
        ):
            if "best" in self.best:
                self.logger.log_best(self.best["best"])
            if self.evaluation_pending or (self.start == plan.total and not self._has_last()):
                self._validate(self.start)
            steps = group_by_step(self._batches(keys), keys.micro_batches)
            for step, (parts, waited) in zip(keys.steps, timed(steps), strict=True):
                stepped = self._step(step, parts, waited)
                trace.step()
                self._keep(step + 1, stop=stepped.stop)
            if self.start < end < plan.total:
                self._save("last.pth", end)
        return self.folder

    def dry_run(self) -> dict[str, Any]:
        """Run one step and one batch of the evaluation, and tell of both; nothing is written."""
        keys = self._keys(0, 1)
        parts = islice(self._batches(keys), keys.micro_batches)
        return dry_run.dry_run(
            self.train_step,
            parts,
            self._at(0),
            lambda: self.validation.one_batch(self.cfg, self.world, self.source, self.train_step),
        )

    def _keys(self, start: int, end: int) -> StepKeys:
        return StepKeys(
            start=start,
            total=end,
            plan=self.plan,
            micro_batches=self.cfg.TRAIN.ACCUMULATE,
            rank=self.world.rank,
            size=self.world.size,
        )

    def _batches(self, keys: StepKeys) -> Iterator[Any]:
        return stream(self.data, keys, self.build.collate, workers=self.plan.workers)

    def _has_last(self) -> bool:
        return (self.folder / "last.pth").is_file()

    def _at(self, step: int) -> Progress:
        return Progress(step, self.plan.total, step // self.plan.steps_per_epoch)

    def _step(self, step: int, parts: list[Any], waited: float) -> Stepped:
        """Train on one batch, and count and tell what it came to."""
        started = time.monotonic()
        at = self._at(step)
        stepped = self.train_step.step(parts, at, stop=self.signals.received is not None)
        seconds = time.monotonic() - started
        if stepped.skipped is None:
            self.epoch.add(stepped.terms, waited=waited, seconds=seconds)
        self.logger.log_step(
            StepRecord(
                done=step + 1,
                epoch=at.epoch,
                terms=stepped.terms,
                rates={name: self.rates[name](step) for name in self.train_step.names},
                norms=stepped.norms,
                waited=waited,
                seconds=seconds,
                skipped=stepped.skipped,
                names=stepped.names,
            )
        )
        self._count_skipped(step + 1, stepped)
        if (step + 1) % self.plan.steps_per_epoch == 0:
            self._tell_epoch(at.epoch)
        return stepped

    def _count_skipped(self, done: int, stepped: Stepped) -> None:
        self.skipped = 0 if stepped.skipped is None else self.skipped + 1
        if stepped.skipped is None:
            return
        samples = ", ".join(stepped.names[:SHOWN]) + ", …" * (len(stepped.names) > SHOWN)
        terms = ", ".join(f"{name} {value:g}" for name, value in stepped.terms.items())
        self.logger.log(
            f"note: step {done} is skipped: {stepped.skipped} ({terms}); samples: {samples}"
        )
        if self.skipped >= self.cfg.TRAIN.MAX_SKIPPED:
            path, step = self.saved or (None, 0)
            good = f"the last good state is {path} (step {step})" if path else "nothing was saved"
            raise UserError(
                f"{self.skipped} step{'s' * (self.skipped > 1)} in a row could not be trained: "
                f"{stepped.skipped} in step {done}",
                f"{good}; a lower learning rate, TRAIN.CLIP_NORM 1 or --precision fp32 may help, "
                "in a run of its own: --tag NAME",
            )

    def _tell_epoch(self, number: int) -> None:
        epoch, self.epoch = self.epoch, AverageMeter()
        if not epoch.steps:
            return
        line = self.validation.epoch_line(epoch.means(), number, epoch.seconds, epoch.waited)
        self.lines += line is not None
        self.logger.log_epoch(number, line, epoch.seconds)
        if broken := epoch.sums.get("broken"):
            self.logger.log(
                f"note: epoch {number + 1}: {broken:.0f} files could not be read, others took "
                "their places"
            )

    def _keep(self, done: int, *, stop: bool) -> None:
        """After a step: evaluate and save where it is time to, and stop if asked to."""
        due = done == self.plan.total or self.validation.due(self.cfg, self.plan, done)
        if stop:
            self._save("last.pth", done, evaluated=not due)
        elif due:
            self._validate(done)
        elif done % self.cfg.TRAIN.SAVE_EVERY == 0 or self._ends_kept_epoch(done):
            self._save("last.pth", done)
        if stop:
            group.barrier()  # the first process may be saving still
            raise self._stopped(self.signals.received or signal.SIGTERM, done)

    def _ends_kept_epoch(self, done: int) -> bool:
        epoch, rest = divmod(done, self.plan.steps_per_epoch)
        return rest == 0 and self.manager.keeps(epoch)

    def _validate(self, done: int) -> None:
        """Evaluate the networks, and their averages; keep the best states of each."""
        # First: whatever happens in an evaluation, no step is lost.
        if self.saved != (self.folder / "last.pth", done):
            self._save("last.pth", done, evaluated=False)
        averages = self.train_step.averages
        with self.logger.paused():
            with self._stoppable(done):
                self._judge(done, "best")
            if averages is not None:
                # In this order: a signal must not cut the exchange of weights short.
                with averages.in_place(), self._stoppable(done):
                    self._judge(done, "best-ema")
        # Last: killed before it, a resumed run comes by here once more.
        self._save("last.pth", done)

    def _stoppable(self, done: int) -> AbstractContextManager[None]:
        return self.signals.stop_immediately(lambda received: self._stopped(received, done))

    def _judge(self, done: int, name: str) -> None:
        """Evaluate what stands in the networks; keep it under `name` where it is the best."""
        if name != "best":
            self.logger.log("with the averaged weights:")
        found: ValidationResult = self.validation.validate(
            self.cfg, self.world, self.source, self.train_step, self._at(done - 1)
        )
        found = found.selected_by(self.cfg.TRAIN.SELECT)
        best = self.best.get(name)
        better = found.better_than(best.value if best else None)
        if better:
            self.best[name] = Best(name=found.name, value=found.value, step=done)
        if name == "best":
            self.measured = dict(found.kept)
        if self.world.is_main:
            self._tell_judged(done, name, found, better=better)
        if better:
            self._save(f"{name}.pth", done, weights_only=True)

    def _tell_judged(self, done: int, name: str, found: ValidationResult, *, better: bool) -> None:
        suffix = name.removeprefix("best")
        draw = found.pictures if self.cfg.TRAIN.TENSORBOARD else None
        self.logger.log_validation(
            done,
            found.row,
            prefix=f"validation{suffix}",
            best=self.best[name] if name == "best" else None,
            pictures=draw() if draw is not None else None,
        )
        if found.results is not None:
            facts = {"step": done, "epoch": self._at(done - 1).epoch + 1, **found.results}
            facts |= {"selected_by": found.name}
            for which in ("last", "best") if better else ("last",):
                atomic.write_json(self.folder / f"validation-{which}{suffix}.json", facts)

    def _stopped(self, received: signal.Signals, done: int) -> signals.Stopped:
        self.logger.set_state("stopped", step=done)
        return signals.Stopped(
            received,
            f"by {received.name} at step {done} of {self.plan.total}, saved in "
            f"{self.folder / 'last.pth'}",
            "go on with the same command and --resume auto",
        )

    def _save(
        self, name: str, done: int, *, weights_only: bool = False, evaluated: bool = True
    ) -> None:
        if name == "last.pth":
            self.saved = (self.folder / name, done)
        if not self.world.is_main:
            return
        state = self.train_step.state() | {
            "task": self.cfg.TASK,
            "dataset": self.cfg.DATASET,
            "classes": self.classes,
            "step": done,
            "total": self.plan.total,
            "best": self.best["best"].value if "best" in self.best else None,
            "bests": {name: asdict(best) for name, best in self.best.items()},
            "measured": self.measured,
            "evaluated": evaluated,
            "skipped": self.skipped,
            "epoch_sums": self.epoch.state(),
            "lines": self.lines,
            "config": self.cfg.dump(),
            **self.build.original_entries(self.train_step, self._at(done - 1).epoch, self.measured),
        }
        for entry in ("optimisers", "averages") if weights_only else ():
            state.pop(entry, None)
        epoch, rest = divmod(done, self.plan.steps_per_epoch)
        ended = epoch if rest == 0 and name == "last.pth" and evaluated else None
        saved = self.manager.save(name, state, epoch=ended)
        self.logger.log_checkpoint(done, name, seconds=saved.seconds, megabytes=saved.megabytes)
