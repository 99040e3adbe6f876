"""The training loop of any task: steps, logging, evaluation, checkpoints, stopping, resuming."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine import dry_run, fingerprint, modules, precision, profiler, signals
from ffreid.engine.checkpoints import repair
from ffreid.engine.checkpoints.manager import CheckpointManager, best_values, check_resumable
from ffreid.engine.distributed import failures, group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import NoBatch, OverfitDataset, StepKeys, group_by_step, stream
from ffreid.engine.task import Best, Progress, TaskModules, check_selection
from ffreid.engine.tracking import run_folder
from ffreid.engine.tracking.logger import RunLogger
from ffreid.engine.train_step import AverageMeter, StepResult, TrainStep, timed
from ffreid.errors import UserError

SELECTION_KEYS = ("TEST.SELECT_ON", "TRAIN.SELECT")
"""Prefixes of the settings that choose the number which selects the best state."""


class Trainer:
    """One training run in `folder`, resumed from the checkpoint `state` of the file `origin`."""

    def __init__(
        self,
        cfg: CfgNode,
        world: World,
        task_modules: TaskModules,
        folder: Path,
        *,
        state: Mapping[str, Any] | None = None,
        origin: str = "",
        data_changed: bool = False,
    ) -> None:
        self.cfg, self.world, self.folder = cfg, world, folder
        self.sources, self.build = task_modules.sources, task_modules.build
        self.validation = task_modules.validation
        self.source = group.main_process_first(lambda: self.sources.open_source(cfg))
        self.sources.check_source(cfg, self.source)
        self.classes = self.sources.class_names(self.source)
        data = self.build.training_set(cfg, self.source)
        plan = self.plan = self.build.plan(cfg, data)
        self.data = OverfitDataset(data, cfg.TRAIN.OVERFIT) if cfg.TRAIN.OVERFIT else data
        self.entries = self.sources.checkpoint_entries(cfg, self.source)
        if state is not None:
            self.sources.check_entries(self.source, state, origin)
            state = repair.complete_for_resume(state, self.classes, plan)
            check_resumable(state, origin, cfg, self.classes, plan.total, self.build.FREE_TO_CHANGE)
        items = self.build.data_items(cfg, self.source)
        group.refuse_differences(
            lambda: {
                "the number of steps": plan.total,
                "the number of steps per epoch": plan.steps_per_epoch,
                **fingerprint.facts(items, state),
                "the precision": str(precision.autocast_dtype(cfg, world.device)),
            }
        )
        if world.is_main:
            self.digests = fingerprint.digests(items, cfg.TRAIN.FINGERPRINT)
            if state is not None and not data_changed:
                self._check_data(state, origin, items)
        if cfg.TRAIN.SELECT:
            check_selection(cfg.TRAIN.SELECT, self.validation.numbers(cfg, self.source))
        self.train_step = self._build_train_step(resumed=state is not None)
        self.manager = CheckpointManager(folder, every=cfg.TRAIN.KEEP_EVERY, keep=cfg.TRAIN.KEEP)
        self.start = self.skipped = self.lines = 0
        self.best: dict[str, Best] = {}
        self.measured: dict[str, float] = {}
        self.evaluation_pending, self.epoch = False, AverageMeter()
        self.saved: tuple[Path, int] | None = None
        if state is not None:
            self._restore(state, Path(origin))
        self.signals = signals.SignalCatcher(
            should_report=lambda: world.is_main and not failures.group_has_failed()
        )
        self.logger = RunLogger(
            folder,
            plan,
            main=world.is_main,
            start=self.start,
            log_every=cfg.TRAIN.LOG_EVERY,
            tensorboard=cfg.TRAIN.TENSORBOARD,
        )

    def _build_train_step(self, *, resumed: bool) -> TrainStep:
        cfg, device, train = self.cfg, self.world.device, self.cfg.TRAIN
        task = group.main_process_first(
            lambda: self.build.build_task(cfg, self.source, device, resumed=resumed)
        )
        precision.check_compiler(train.COMPILE)
        if train.CHANNELS_LAST or precision.is_bf16_on_cpu(cfg, device):
            modules.channels_last(task)
        return TrainStep(
            task,
            self.build.build_optimisers(cfg, task),
            self.build.rates(cfg, self.plan),
            device=device,
            dtype=precision.dtype(cfg),
            autocast=precision.autocast_dtype(cfg, device),
            seed=cfg.SEED,
            rank=self.world.rank,
            clip_norm=train.CLIP_NORM,
            ema_decay=train.EMA,
            backend=train.COMPILE,
        )

    def _check_data(
        self, state: Mapping[str, Any], origin: str, items: Sequence[fingerprint.Item]
    ) -> None:
        if (saved := state.get("data")) is None:
            report.log(f"note: {origin} does not record its data: they are not compared")
            return
        kind, then = saved
        same_kind = kind == self.cfg.TRAIN.FINGERPRINT
        now = self.digests if same_kind else fingerprint.digests(items, kind)
        fingerprint.check(then, origin, items, now)

    def _restore(self, state: Mapping[str, Any], origin: Path) -> None:
        self.train_step.load_state(state, str(origin))
        if self.world.is_main and self.train_step.optimisers.keys() - state["optimisers"].keys():
            report.log(
                f"note: {origin} contains no optimiser state: the optimisers start from scratch"
            )
        self.saved = (origin, state["step"])
        self.start, self.measured = state["step"], state.get("measured", {})
        self.skipped = state.get("skipped", 0)
        self.evaluation_pending = not state.get("evaluated", True)
        self.epoch = AverageMeter(**state.get("epoch_sums", {}))
        if origin.parent.resolve() == self.folder.resolve():
            self.lines = state.get("lines", self.start // self.plan.steps_per_epoch)
        changed = [key for key, *_ in differing(self.cfg, state["config"])]
        # Values of different numbers cannot be compared.
        if not any(key.startswith(SELECTION_KEYS) for key in changed):
            best = best_values(state)
            lost = [name for name in best if not (self.folder / f"{name}.pth").is_file()]
            self.best = {name: best[name] for name in best if name not in lost}
            for name in lost if self.world.is_main else ():
                report.log(
                    f"note: no {name}.pth in {self.folder}: its {best[name].name} of "
                    f"{best[name].value:g} is forgotten, and the best is chosen from now on"
                )

    def fit(self, stop_at: int | None = None, *, profiled_steps: int = 0) -> Path:
        """Train to the last step, or to `stop_at`; return the run folder.

        Raises:
            UserError: a file cannot be read or written, or too many steps in a row were skipped.
            Stopped: by a signal, after saving.
        """
        plan, main = self.plan, self.world.is_main
        end = plan.total if stop_at is None else min(stop_at, plan.total)
        batches = self._batches(self.start, end)
        if main:
            self._start_files()
        with (
            self.logger,
            signals.catch_signals(self.signals),
            profiler.profile_steps(profiled_steps * main, self.folder) as profile_step,
        ):
            if "best" in self.best:
                self.logger.log_best(self.best["best"])
            is_saved = self.start < plan.total or (self.folder / "last.pth").is_file()
            if self.evaluation_pending or not is_saved:
                self._validate(self.start)
            steps, done = zip(range(self.start, end), timed(batches), strict=True), self.start
            try:
                for step, (micro_batches, waited) in steps:
                    result = self._step(step, micro_batches, waited)
                    done = step + 1
                    profile_step()
                    self._after_step(done, stop=result.stop)
            except NoBatch:  # the data workers hang, and this process was asked to stop
                if done:
                    self._save("last.pth", done)
                raise self._stopped(self.signals.received or signal.SIGTERM, done) from None
            if self.start < end < plan.total:
                self._save("last.pth", end)
        return self.folder

    def _start_files(self) -> None:
        """Write configuration and provenance, truncate the logs, and print a header."""
        cfg, plan, folder, summary = self.cfg, self.plan, self.folder, self.source.summary()
        count, device = self.world.size, self.world.device
        facts = run_folder.provenance(cfg.SEED, count, str(device))
        facts |= {"data": summary, "resumed_at": self.start or None}
        run_folder.write_start(folder, cfg, facts)
        run_folder.truncate_metrics(folder, self.start, evaluation_pending=self.evaluation_pending)
        run_folder.truncate_log(folder, self.lines)
        notes = []
        if half := precision.autocast_dtype(cfg, device):
            notes.append(f"mixed precision: {str(half).removeprefix('torch.')}")
            notes += precision.slow_bf16(half, device)
        elif cfg.TRAIN.PRECISION == "amp":
            notes.append("float32: this processor has no bfloat16 instructions")
        if cfg.TRAIN.ACCUMULATE > 1:
            notes.append(
                f"gradient accumulation: {cfg.TRAIN.ACCUMULATE} micro-batches per step and "
                "process; batch norm normalizes each separately"
            )
        if cfg.TRAIN.OVERFIT:
            notes.append(f"overfitting on {cfg.TRAIN.OVERFIT} samples")
        report.log(
            f"training {cfg.DATASET}: {plan.total} steps, {plan.steps_per_epoch} per epoch, batch "
            f"size {plan.batch}, {count} process{'es' if count > 1 else ''} on {device.type}, run "
            f"folder {folder}"
        )
        report.log(f"data: {summary}")
        for note in [*notes, *self.sources.notes(cfg, self.source)]:
            report.log(f"note: {note}")

    def dry_run(self) -> dict[str, Any]:
        """Run one step and one batch of the evaluation and describe both; write nothing."""
        return dry_run.dry_run(
            self.train_step,
            self._batches(0, 1),
            self._at(0),
            lambda: self.validation.one_batch(self.cfg, self.world, self.source, self.train_step),
        )

    def _batches(self, start: int, end: int) -> Iterator[list[Any]]:
        """Load the micro-batches of each step."""
        rank, size, count = self.world.rank, self.world.size, self.cfg.TRAIN.ACCUMULATE
        keys = StepKeys(
            start=start, total=end, plan=self.plan, micro_batches=count, rank=rank, size=size
        )
        batches = stream(
            self.data,
            keys,
            self.build.collate,
            workers=self.plan.workers,
            stop=lambda: self.signals.received is not None,
        )
        return group_by_step(batches, count)

    def _at(self, step: int) -> Progress:
        return Progress(step, self.plan.total, step // self.plan.steps_per_epoch)

    def _step(self, step: int, micro_batches: list[Any], waited: float) -> StepResult:
        """Train on one batch and log the result."""
        started = time.monotonic()
        at = self._at(step)
        result = self.train_step.step(micro_batches, at, stop=self.signals.received is not None)
        result.waited, result.seconds = waited, time.monotonic() - started
        if result.skipped is None:
            self.epoch.add(result)
        self.logger.log_step(result)
        self._count_skipped(result)
        if (step + 1) % self.plan.steps_per_epoch == 0:
            self._end_epoch(at.epoch)
        return result

    def _count_skipped(self, result: StepResult) -> None:
        if result.skipped is None:
            self.skipped = 0
            return
        self.skipped += 1
        samples = ", ".join(result.names[:8]) + ", …" * (len(result.names) > 8)
        terms = ", ".join(f"{name} {value:g}" for name, value in result.terms.items())
        self.logger.log(
            f"note: step {result.done} skipped, weights unchanged: {result.skipped} ({terms}); "
            f"samples: {samples}"
        )
        if self.skipped >= self.cfg.TRAIN.MAX_SKIPPED:
            good = "no checkpoint was saved"
            if self.saved is not None:
                good = "the last checkpoint is {} (step {})".format(*self.saved)
            raise UserError(
                f"{self.skipped} step{'s' * (self.skipped > 1)} in a row were skipped: "
                f"{result.skipped} in step {result.done}",
                f"{good}; try a lower learning rate, TRAIN.CLIP_NORM 1 or --precision fp32 in a "
                "new run: --tag NAME",
            )

    def _end_epoch(self, number: int) -> None:
        epoch, self.epoch = self.epoch, AverageMeter()
        if not epoch.steps:
            return
        line = self.validation.epoch_line(epoch.means(), number, epoch.seconds, epoch.waited)
        self.lines += line is not None
        self.logger.log_epoch(number, line, epoch.seconds)
        if broken := epoch.sums.get("broken"):
            self.logger.log(
                f"note: epoch {number + 1}: {broken:.0f} files could not be read and were replaced "
                "by others"
            )

    def _after_step(self, done: int, *, stop: bool) -> None:
        """Evaluate and save when due, and stop if asked to."""
        due = done == self.plan.total or self.validation.due(self.cfg, self.plan, done)
        epoch, rest = divmod(done, self.plan.steps_per_epoch)
        if stop:
            self._save("last.pth", done, evaluated=not due)
        elif due:
            self._validate(done)
        elif done % self.cfg.TRAIN.SAVE_EVERY == 0 or (rest == 0 and self.manager.keeps(epoch)):
            self._save("last.pth", done)
        if stop:
            group.barrier()  # the first process may still be saving
            raise self._stopped(self.signals.received or signal.SIGTERM, done)

    def _validate(self, done: int) -> None:
        """Evaluate the networks, and their averages; keep the best states of each."""
        # Saved first: whatever happens in an evaluation, no step is lost.
        if self.saved != (self.folder / "last.pth", done):
            self._save("last.pth", done, evaluated=False)
        averages = self.train_step.averages
        with self.logger.paused():
            with self._stoppable(done):
                self._evaluate(done, "best")
            if averages is not None:
                # In this order: a signal must not interrupt the exchange of weights.
                with averages.in_place(), self._stoppable(done):
                    self._evaluate(done, "best-ema")
        # Saved last: a run killed before this evaluates again when resumed.
        self._save("last.pth", done)

    def _stoppable(self, done: int) -> AbstractContextManager[None]:
        return self.signals.stop_immediately(lambda received: self._stopped(received, done))

    def _evaluate(self, done: int, name: str) -> None:
        """Evaluate the current weights; save them as `name` if they are the best."""
        ema = name.removeprefix("best")
        if ema:
            self.logger.log("with EMA weights:")
        result = self.validation.validate(
            self.cfg, self.world, self.source, self.train_step, self._at(done - 1)
        ).selected_by(self.cfg.TRAIN.SELECT)
        better = result.better_than(self.best[name].value if name in self.best else None)
        if better:
            self.best[name] = Best(name=result.name, value=result.value, step=done)
        if not ema:
            self.measured = dict(result.measured)
        if self.world.is_main:
            draw = result.images if self.cfg.TRAIN.TENSORBOARD else None
            self.logger.log_validation(
                done,
                result.row,
                prefix=f"validation{ema}",
                best=None if ema else self.best[name],
                images=draw() if draw is not None else None,
            )
            if result.results is not None:
                facts = {"step": done, "epoch": self._at(done - 1).epoch + 1, **result.results}
                facts |= {"selected_by": result.name}
                for which in ("last", "best") if better else ("last",):
                    atomic.write_json(self.folder / f"validation-{which}{ema}.json", facts)
        if better:
            self._save(f"{name}.pth", done, weights_only=True)

    def _stopped(self, received: signal.Signals, done: int) -> signals.Stopped:
        self.logger.set_state("stopped", step=done)
        return signals.Stopped(
            received,
            f"by {received.name} at step {done} of {self.plan.total}"
            + (f", saved in {self.folder / 'last.pth'}" if done else ""),
            "resume with the same command and --resume auto",
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
            "epoch_sums": asdict(self.epoch),
            "lines": self.lines,
            "config": self.cfg.dump(),
            "data": (self.cfg.TRAIN.FINGERPRINT, self.digests),
            **self.entries,
            **self.build.original_entries(self.train_step, self._at(done - 1).epoch, self.measured),
        }
        for entry in ("optimisers", "averages", "data") if weights_only else ():
            state.pop(entry, None)
        epoch, rest = divmod(done, self.plan.steps_per_epoch)
        ended = epoch if rest == 0 and name == "last.pth" and evaluated else None
        self.logger.log_checkpoint(done, self.manager.save(name, state, epoch=ended))
