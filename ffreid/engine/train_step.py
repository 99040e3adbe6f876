"""One training step: what a task's losses say, in parts or as a whole, in any precision."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from ffreid.engine import batchnorm
from ffreid.engine.distributed import group as group_module
from ffreid.engine.ema import Averages
from ffreid.engine.task import Batch, Progress, Task, plain, trained_modules
from ffreid.errors import UserError

Terms = dict[str, Tensor]


@dataclass(kw_only=True)
class Stepped:
    """What a step came to.

    Attributes:
        terms: means over its samples, of all processes; ``loss`` is the sum of those trained.
        norms: length of each trained part's gradient, before clipping.
        skipped: why nothing was trained, or no more after the parts in `norms`; None as a rule.
        names: the samples of the processes that brought that about, as far as it can be told.
        stop: whether a process was asked to stop.
    """

    terms: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None
    names: tuple[str, ...] = ()
    stop: bool = False


class TrainStep:
    """Steps a task's optimisers; its whole state is the task, the optimisers and a step number.

    Args:
        task: on its device already; its trained attributes are wrapped for many processes here.
        optimisers: name of a trained attribute to its optimiser.
        rates: name of a trained attribute to its learning rate as a function of the step.
        device: where batches go.
        dtype: of the batches' floating point tensors.
        half: what autocast computes in, torch.bfloat16 or torch.float16; None is off.
        seed: dropout of a step derives from it, the step and the process.
        rank: of this process.
        clip_norm: length that a trained part's gradient is cut down to; 0 is off.
        average: decay of an average of everything that is trained; 0 is off.
        backend: of torch.compile, which compiles the trained attributes in place; "" is off.
    """

    def __init__(
        self,
        task: Task,
        optimisers: Mapping[str, Optimizer],
        rates: Mapping[str, Callable[[int], float]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        half: torch.dtype | None = None,
        seed: int,
        rank: int = 0,
        clip_norm: float = 0.0,
        average: float = 0.0,
        backend: str = "",
    ) -> None:
        self.task, self.optimisers, self.rates = task, dict(optimisers), dict(rates)
        self.device, self.dtype, self.half = device, dtype, half
        self.seed, self.rank, self.clip_norm = seed, rank, clip_norm
        self.scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
        self.averages = Averages(trained_modules(task), average) if average else None
        for name in task.trained:
            if backend:
                getattr(task, name).compile(backend=backend)
            if group_module.size() > 1:
                setattr(task, name, DistributedDataParallel(getattr(task, name)))
        self._buffers = list(task.buffers())
        self._remembered = [buffer.clone() for buffer in self._buffers]

    def step(self, parts: Sequence[Batch], at: Progress, *, stop: bool = False) -> Stepped:
        """Train on one batch, given whole or in parts whose gradients are summed.

        A loss or gradient that is not finite trains nothing and leaves running statistics as they
        were, in all processes alike.

        Args:
            parts: this process's samples of the step, in the order of the batch; a loss counts by
                its part's share of them.
            at: where training stands.
            stop: whether this process is asked to stop.
        """
        self.task.train()
        self.task.modes()
        self.task.prepare(at)
        _copy(self._buffers, self._remembered)
        done, terms = Stepped(), dict[str, float]()
        for name, found in (self._whole if len(parts) == 1 else self._summed)(parts, at):
            means = averaged(found | {"#stop": torch.tensor(float(stop))}, self.device)
            done.stop = means.pop("#stop") > 0 or done.stop
            terms |= means
            done.skipped = self._advance(name, total(means), at, done.norms)
            if done.skipped is not None:
                done.names = _culprits(found, parts)
                break
        if done.norms:
            self.scaler.update()
        done.terms = with_loss(terms)
        if done.skipped is not None:
            _copy(self._remembered, self._buffers)
        elif self.averages is not None:
            self.averages.update()
        return done

    def _whole(self, parts: Sequence[Batch], at: Progress) -> Iterator[tuple[str, Terms]]:
        """Propagate each phase of the only part; what comes next sees the stepped one."""
        self._reseed(at, 0)
        for name, terms in self._phases(parts[0], at):
            self.optimisers[name].zero_grad(set_to_none=True)
            self._propagate(terms, 1.0)
            yield name, {key: term.detach() for key, term in terms.items()}

    def _summed(self, parts: Sequence[Batch], at: Progress) -> Iterator[tuple[str, Terms]]:
        """Propagate each phase of all parts before the next phase of any.

        A later phase runs what comes before it again: its graph would have to be kept for all
        parts otherwise, and that is what parts are there to avoid. Only the first run of the
        first part changes running statistics, as of several processes only the first one's count.
        """
        samples, last = sum(map(len, parts)), len(parts) - 1
        phase = 0
        while True:
            stepped, logged = "", Terms()
            for index, part in enumerate(parts):
                with (
                    self._gradients_exchanged_by(stepped if index == last else ""),
                    batchnorm.statistics_kept(self.task, phase > 0 or index > 0),
                ):
                    self._reseed(at, index)
                    phases = self._phases(part, at)
                    stepped, terms = next(islice(phases, phase, None))
                    if index == 0:
                        self.optimisers[stepped].zero_grad(set_to_none=True)
                    self._propagate(terms, len(part) / samples)
                for key, term in terms.items():
                    weight = 1.0 if key.startswith("#") else len(part) / samples
                    logged[key] = logged.get(key, 0.0) + weight * term.detach()
            yield stepped, logged
            with self._gradients_exchanged_by(""), batchnorm.statistics_kept(self.task):
                if next(phases, None) is None:
                    return
            phase += 1

    def _phases(self, part: Batch, at: Progress) -> Iterator[tuple[str, Terms]]:
        """The task's losses, each phase in an autocast region of its own.

        One region around all would keep the half-precision copies of weights made before the
        first optimiser's step.
        """
        phases = self.task.losses(part.to(self.device, self.dtype), at)
        while True:
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                phase = next(phases, None)
            if phase is None:
                return
            yield phase

    def _reseed(self, at: Progress, index: int) -> None:
        """Let dropout derive from the step, the process and the part."""
        entropy = np.random.SeedSequence([self.seed, at.step, self.rank] + [index] * (index > 0))
        torch.manual_seed(int(entropy.generate_state(1, np.uint32)[0]))

    def _propagate(self, terms: Terms, weight: float) -> None:
        loss = sum((term for key, term in terms.items() if _is_trained(key)), start=torch.zeros(()))
        torch.autograd.backward(self.scaler.scale(loss if weight == 1 else weight * loss))

    def _gradients_exchanged_by(self, name: str) -> ExitStack:
        """Let no trained part but `name` exchange gradients with other processes."""
        stack = ExitStack()
        for other in self.names:
            module = getattr(self.task, other)
            if other != name and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack

    def _advance(self, name: str, loss: float, at: Progress, norms: dict[str, float]) -> str | None:
        """Step an optimiser, adding its gradient's length to `norms`; give why not, if not."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        optimiser = self.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = self.rates[name](at.step)
        self.scaler.unscale_(optimiser)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        length = get_total_norm([p.grad for p in parameters if p.grad is not None])
        norms[name] = float(length)
        # Under a large loss scale that is an ordinary event, which the scaler answers itself.
        if not math.isfinite(norms[name]) and self.scaler.get_scale() <= 1:
            return f"the gradient of {name} has length {norms[name]}"
        if self.clip_norm:
            clip_grads_with_norm_(parameters, self.clip_norm, length)
        self.scaler.step(optimiser)
        return None

    def state(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        state: dict[str, Any] = {
            "parts": {name: part.state_dict() for name, part in trained_modules(self.task).items()},
            "optimisers": {name: self.optimisers[name].state_dict() for name in self.names},
            "scaler": self.scaler.state_dict(),
        }
        return state if self.averages is None else state | {"averages": self.averages.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; what old files lack begins anew.

        Those that others wrote may lack optimisers' states, the scaler's and averages.
        """
        for name, part in trained_modules(self.task).items():
            part.load_state_dict(state["parts"][name])
        for name in self.names:
            if name in state["optimisers"]:
                self.optimisers[name].load_state_dict(state["optimisers"][name])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if self.averages is not None and "averages" in state:
            self.averages.load_state_dict(state["averages"])
        elif self.averages is not None:
            self.averages.restart()

    @property
    def names(self) -> tuple[str, ...]:
        """The trained attributes."""
        return self.task.trained

    def fsync_folder(self) -> None:
        """Put the task in evaluation mode, with the first process's statistics everywhere."""
        self.task.eval()
        for name in self.names:
            group_module.broadcast_buffers(plain(getattr(self.task, name)))

    @torch.no_grad()
    def evaluate(self, batches: Iterator[Any], at: Progress) -> dict[str, float]:
        """Average every term over all processes' samples, in evaluation mode."""
        self.fsync_folder()
        sums: dict[str, float] = {}
        count = 0
        for batch in batches:
            weight = len(batch)
            count += weight
            for _, terms in self._phases(batch, at):
                for key, term in terms.items():
                    sums[key] = sums.get(key, 0.0) + weight * float(term)
        found = group_module.gather_rows([(sums, count)])
        samples = sum(part[1] for part in found)
        if not samples:
            raise UserError(
                "not one frame could be used to validate", "check the depth of the test frames"
            )
        names = sorted({name for part in found for name in part[0]})
        return with_loss({n: sum(part[0].get(n, 0.0) for part in found) / samples for n in names})


def averaged(terms: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Terms averaged over processes; those whose names begin with ``#`` are summed."""
    names = sorted(terms)
    stacked = torch.stack([terms[name].to(device, torch.float64) for name in names])
    means = dict(zip(names, group_module.mean(stacked).tolist(), strict=True))
    return {
        n: value * group_module.size() if n.startswith("#") else value for n, value in means.items()
    }


def _culprits(found: Terms, parts: Sequence[Batch]) -> tuple[str, ...]:
    """Samples of the processes whose terms are not finite; of all, where only gradients are not."""
    finite = all(bool(term.isfinite().all()) for term in found.values())
    names = [name for part in parts for name in part.names]
    rows = group_module.gather_rows([(finite, name) for name in names])
    bad = [name for finite, name in rows if not finite]
    return tuple(bad or [name for _, name in rows])


def total(terms: Mapping[str, float]) -> float:
    """Sum of the terms that are trained."""
    return math.fsum(value for name, value in terms.items() if _is_trained(name))


def with_loss(terms: Mapping[str, float]) -> dict[str, float]:
    """Give terms under their plain names, with ``loss``, the sum of those that are trained."""
    return {"loss": total(terms)} | {name.lstrip("_#"): value for name, value in terms.items()}


def _is_trained(name: str) -> bool:
    return not name.startswith(("_", "#"))


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    if source:
        torch._foreach_copy_(target, source)


def timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Give each batch with the seconds waited for it."""
    asked = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()


class AverageMeter:
    """Terms summed over the steps of an epoch.

    Args:
        state: of an epoch that was interrupted, from `state`; it goes on.

    Attributes:
        steps: how many were counted.
        seconds: that they took, waiting for their batches included.
        waited: seconds that they waited for their batches.
        sums: of each term, by name.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        past = state or {"steps": 0, "seconds": 0.0, "waited": 0.0, "sums": {}}
        self.steps: int = past["steps"]
        self.seconds: float = past["seconds"]
        self.waited: float = past["waited"]
        self.sums: dict[str, float] = dict(past["sums"])

    def add(self, terms: Mapping[str, float], *, waited: float, seconds: float) -> None:
        """Count a step's terms, the seconds it waited for its batch, and those it then took."""
        self.steps += 1
        self.waited += waited
        self.seconds += waited + seconds
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Give every term's mean over the steps."""
        return {name: total / self.steps for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint in the middle of an epoch holds of it."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "waited": self.waited,
            "sums": dict(self.sums),
        }
