"""One training step of any task: micro-batches, mixed precision, clipping and skipped steps."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from ffreid.engine import batchnorm
from ffreid.engine.checkpoints.io import DoesNotFit, load_weights
from ffreid.engine.checkpoints.schema import find_difference, find_optimiser_difference
from ffreid.engine.distributed import group
from ffreid.engine.ema import Averages
from ffreid.engine.optim import load_state
from ffreid.engine.task import Batch, Losses, Progress, Task, stateful_modules, unwrap

Terms = dict[tuple[str, str], Tensor]
"""Detached losses by kind (count, log, train) and name; sorted, they are in the log's order."""
Means = dict[tuple[str, str], float]


@dataclass(kw_only=True)
class StepResult:
    """Outcome of a step.

    Attributes:
        done: steps done, this one included.
        epoch: from 0.
        rates: learning rate of each optimised part.
        terms: ``loss`` and its terms, means over the samples of all processes.
        norms: gradient norm of each optimised part, before clipping.
        waited: seconds waited for data.
        seconds: of computation.
        skipped: why nothing was trained; None if the step was taken.
        names: of a skipped step, the samples of the processes whose losses are not finite.
        stop: whether a process was asked to stop.
    """

    done: int
    epoch: int
    rates: Mapping[str, float]
    terms: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    waited: float = 0.0
    seconds: float = 0.0
    skipped: str | None = None
    names: tuple[str, ...] = ()
    stop: bool = False


class TrainStep:
    """Steps the optimisers of a task's optimised attributes, which it compiles and wraps in place.

    Args:
        optimisers: by optimised attribute, like the `rates`, functions of the step.
        dtype: of the batches' floating point tensors.
        autocast: dtype of autocast, torch.bfloat16 or torch.float16; None is off.
        seed: dropout derives from it, the step and the rank.
        clip_norm: largest gradient norm of an optimised part; 0 is off.
        ema_decay: of an average of all weights and buffers; 0 is off.
        backend: of torch.compile; "" is off.
    """

    def __init__(
        self,
        task: Task,
        optimisers: Mapping[str, Optimizer],
        rates: Mapping[str, Callable[[int], float]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        autocast: torch.dtype | None = None,
        seed: int,
        rank: int = 0,
        clip_norm: float = 0.0,
        ema_decay: float = 0.0,
        backend: str = "",
    ) -> None:
        self.task = task
        self.optimisers = {name: optimisers[name] for name in task.optimized}
        self.rates = {name: rates[name] for name in task.optimized}
        self.device, self.dtype, self.autocast = device, dtype, autocast
        self.seed, self.rank, self.clip_norm = seed, rank, clip_norm
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast == torch.float16)
        self.averages = Averages(stateful_modules(task), ema_decay) if ema_decay else None
        for name in task.optimized:
            if backend:
                getattr(task, name).compile(backend=backend)
            if group.size() > 1:
                setattr(task, name, DistributedDataParallel(getattr(task, name)))
        self._buffers = list(task.buffers())
        self._saved_buffers = [buffer.clone() for buffer in self._buffers]
        self._saved_parts: dict[str, tuple[list[Tensor], dict[str, Any]]] = {}

    def step(
        self, micro_batches: Sequence[Batch], at: Progress, *, stop: bool = False
    ) -> StepResult:
        """Train on one batch, complete or in micro-batches whose gradients are accumulated.

        A loss or gradient that is not finite skips the step in all processes: weights, optimisers
        and running statistics stay as they were, also of parts that an earlier phase has stepped.
        For this, parts other than the last are copied before their optimiser steps.

        Args:
            micro_batches: this process's samples; a loss is weighted by its micro-batch's share.
            at: the current step.
            stop: whether this process was asked to stop.
        """
        self.task.train()
        self.task.adjust_modes()
        self.task.before_step(at)
        _copy(self._buffers, self._saved_buffers)
        self._saved_parts.clear()
        rates = {name: rate(at.step) for name, rate in self.rates.items()}
        result, means = StepResult(done=at.step + 1, epoch=at.epoch, rates=rates), Means()
        phases = self._single if len(micro_batches) == 1 else self._accumulated
        for name, terms in phases(micro_batches, at):
            terms_and_stop = terms | {("count", "stop"): torch.tensor(float(stop))}
            phase_means = mean_over_processes(terms_and_stop, self.device)
            result.stop = phase_means.pop(("count", "stop")) > 0 or result.stop
            means |= phase_means
            loss = with_loss(phase_means)["loss"]
            result.skipped = self._advance(name, loss, result)
            if result.skipped is not None:
                result.names = _suspects(terms, micro_batches)
                break
        if result.norms:
            self.scaler.update()
        result.terms = with_loss(means)
        if result.skipped is not None:
            self._undo()
        elif self.averages is not None:
            self.averages.update()
        return result

    def _single(self, micro_batches: Sequence[Batch], at: Progress) -> Iterator[tuple[str, Terms]]:
        """Backpropagate each phase of the only micro-batch; the next one follows the update."""
        self._reseed(at, 0)
        for name, losses in self._phases(micro_batches[0], at):
            self.optimisers[name].zero_grad(set_to_none=True)
            self._backward(losses, 1.0)
            yield name, _detached(losses)

    def _accumulated(
        self, micro_batches: Sequence[Batch], at: Progress
    ) -> Iterator[tuple[str, Terms]]:
        """Backpropagate each phase of all micro-batches before the next phase of any.

        Only the first run of the first micro-batch changes running statistics, just as only the
        first process's count.
        """
        samples, last = sum(map(len, micro_batches)), len(micro_batches) - 1
        for phase in count():
            name, sums = "", Terms()
            for index, batch in enumerate(micro_batches):
                with (
                    self._synchronised(name if index == last else ""),
                    batchnorm.keep_statistics(self.task, phase > 0 or index > 0),
                ):
                    self._reseed(at, index)
                    # Earlier phases are computed again: keeping the graphs of all micro-batches
                    # would take the memory that accumulation saves.
                    phases = islice(self._phases(batch, at), phase, None)
                    name, losses = next(phases)
                    if index == 0:
                        self.optimisers[name].zero_grad(set_to_none=True)
                    weight = len(batch) / samples
                    self._backward(losses, weight)
                for key, term in _detached(losses).items():
                    sums[key] = sums.get(key, 0.0) + (1.0 if key[0] == "count" else weight) * term
            yield name, sums
            with self._synchronised(""), batchnorm.keep_statistics(self.task):
                if next(phases, None) is None:
                    return

    def _phases(self, batch: Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
        """The task's losses, each phase in an autocast region of its own.

        One region around all would cache half-precision copies of weights from before the first
        optimiser's step.
        """
        phases = self.task.losses(batch.to(self.device, self.dtype), at)
        while True:
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                phase = next(phases, None)
            if phase is None:
                return
            yield phase

    def _reseed(self, at: Progress, index: int) -> None:
        """Let dropout derive from the step, the process and the micro-batch."""
        entropy = np.random.SeedSequence([self.seed, at.step, self.rank] + [index] * (index > 0))
        torch.manual_seed(int(entropy.generate_state(1, np.uint32)[0]))

    def _backward(self, losses: Losses, weight: float) -> None:
        loss = sum(losses.train.values(), start=torch.zeros(()))
        torch.autograd.backward(self.scaler.scale(loss if weight == 1 else weight * loss))

    def _synchronised(self, name: str) -> ExitStack:
        """Let no optimised part but `name` exchange gradients with other processes."""
        stack = ExitStack()
        for other in self.optimisers:
            module = getattr(self.task, other)
            if other != name and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack

    def _advance(self, name: str, loss: float, result: StepResult) -> str | None:
        """Step an optimiser and add its gradient norm to the result; give the reason if not."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        optimiser = self.optimisers[name]
        for param_group in optimiser.param_groups:
            param_group["lr"] = result.rates[name]
        self.scaler.unscale_(optimiser)
        parameters = _parameters(optimiser)
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        result.norms[name] = float(norm)
        # Overflow under a large loss scale is ordinary: the scaler skips and lowers the scale.
        if not math.isfinite(result.norms[name]) and self.scaler.get_scale() <= 1:
            return f"the gradient norm of {name} is {result.norms[name]}"
        if self.clip_norm:
            clip_grads_with_norm_(parameters, self.clip_norm, norm)
        if name != self.task.optimized[-1]:
            weights = [parameter.detach().clone() for parameter in parameters]
            self._saved_parts[name] = weights, deepcopy(optimiser.state_dict())
        self.scaler.step(optimiser)
        return None

    @torch.no_grad()
    def _undo(self) -> None:
        """Restore buffers, and weights and optimisers of the parts stepped so far."""
        _copy(self._saved_buffers, self._buffers)
        for name, (weights, state) in self._saved_parts.items():
            _copy(weights, _parameters(self.optimisers[name]))
            self.optimisers[name].load_state_dict(state)

    def state(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        modules = stateful_modules(self.task)
        state: dict[str, Any] = {
            "parts": {name: module.state_dict() for name, module in modules.items()},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "scaler": self.scaler.state_dict(),
        }
        return state if self.averages is None else state | {"averages": self.averages.state_dict()}

    def load_state(self, state: Mapping[str, Any], origin: str) -> None:
        """Load what `state` returned.

        Converted checkpoints may lack optimisers and averages, and a loss scaler may be new.

        Raises:
            DoesNotFit: the state in the file `origin` is of another network or optimiser.
        """
        problem, given, averages = "", state["optimisers"], state.get("averages")
        is_own = "converted" not in state
        for name, module in stateful_modules(self.task).items():
            load_weights(module, state["parts"].get(name, {}), f"{origin}, entry {name!r},")
        for name, optimiser in self.optimisers.items():
            if name in given or is_own:
                problem = problem or find_optimiser_difference(
                    f"optimisers.{name}", given.get(name), optimiser, is_own=is_own
                )
        if self.averages is not None and (averages or is_own):
            example = self.averages.state_dict()
            problem = problem or find_difference("averages", averages, example)
        if state.get("scaler") and self.scaler.is_enabled():
            example = self.scaler.state_dict()
            problem = problem or find_difference("scaler", state["scaler"], example)
        if problem:
            hint = "use another checkpoint of the run: this one was changed or damaged"
            raise DoesNotFit(f"cannot resume from {origin}: {problem}", hint)
        for name in given.keys() & self.optimisers.keys():
            load_state(self.optimisers[name], given[name])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if self.averages is not None:
            self.averages.load_state_dict(averages or self.averages.current())

    def prepare_evaluation(self) -> None:
        """Put the task in evaluation mode, with the first process's statistics everywhere."""
        self.task.eval()
        for name in self.optimisers:
            group.broadcast_buffers(unwrap(getattr(self.task, name)))

    @torch.no_grad()
    def evaluate(self, batches: Iterator[Any], at: Progress) -> dict[str, float]:
        """Average ``loss`` and every term over the samples of all processes, if there are any."""
        self.prepare_evaluation()
        sums, samples = Means(), 0
        for batch in batches:
            samples += len(batch)
            for _, losses in self._phases(batch, at):
                for key, term in _detached(losses).items():
                    sums[key] = sums.get(key, 0.0) + len(batch) * float(term)
        rows = group.gather_rows([(sums, samples)])
        if not (total := sum(count for _, count in rows)):
            return {}
        keys = sorted({key for row, _ in rows for key in row})
        return with_loss({key: sum(row.get(key, 0.0) for row, _ in rows) / total for key in keys})


def mean_over_processes(terms: Terms, device: torch.device) -> Means:
    """Average terms over processes, and sum counts."""
    keys = sorted(terms)
    stacked = torch.stack([terms[key].to(device, torch.float64) for key in keys])
    means = zip(keys, group.mean(stacked).tolist(), strict=True)
    return {k: mean * group.size() if k[0] == "count" else mean for k, mean in means}


def with_loss(means: Means) -> dict[str, float]:
    """Terms by name, after ``loss``, the sum of those that are minimised."""
    loss = math.fsum(value for (kind, _), value in means.items() if kind == "train")
    return {"loss": loss} | {name: value for (_, name), value in means.items()}


def _suspects(terms: Terms, micro_batches: Sequence[Batch]) -> tuple[str, ...]:
    """Samples of the processes whose terms are not finite, or of all if only gradients are not."""
    finite = all(bool(term.isfinite().all()) for term in terms.values())
    names = [name for batch in micro_batches for name in batch.names]
    rows = group.gather_rows([(finite, name) for name in names])
    bad = [name for finite, name in rows if not finite]
    return tuple(bad or [name for _, name in rows])


def _detached(losses: Losses) -> Terms:
    kinds = {"count": losses.count, "log": losses.log, "train": losses.train}
    return {(kind, n): term.detach() for kind, terms in kinds.items() for n, term in terms.items()}


def _parameters(optimiser: Optimizer) -> list[Tensor]:
    return [p for param_group in optimiser.param_groups for p in param_group["params"]]


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)


def timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Yield each batch with the seconds waited for it."""
    asked = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()


@dataclass
class AverageMeter:
    """Sums over the steps of an epoch: its seconds, those spent waiting for batches, its terms."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self.steps += 1
        self.waited += result.waited
        self.seconds += result.waited + result.seconds
        for name, value in result.terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Mean of every term."""
        return {name: total / self.steps for name, total in self.sums.items()}
