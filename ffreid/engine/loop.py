"""A task says which losses train which of its parts; the one loop does everything else."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ffreid.engine import dist
from ffreid.errors import UserError


@dataclass(frozen=True)
class Progress:
    """Where training stands: `step` steps are done of `total`; the current one is of `epoch`."""

    step: int
    total: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long training is: `total` steps of `batch` samples over all processes.

    Attributes:
        batch: samples a step.
        steps_per_epoch: what makes an epoch.
        total: steps of the whole run.
        workers: processes that load.
    """

    batch: int
    steps_per_epoch: int
    total: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What an evaluation during training found.

    Attributes:
        row: numbers for metrics.jsonl.
        name: of the number that selects the best state.
        value: that number.
        larger: whether a larger one is better.
        results: all that was found, to be kept in a file; None for nothing more than the row.
        kept: numbers that checkpoints hold until the next evaluation.
    """

    row: Mapping[str, float]
    name: str
    value: float
    larger: bool
    results: Mapping[str, Any] | None = None
    kept: Mapping[str, float] = field(default_factory=dict)

    def better_than(self, best: float | None) -> bool:
        """Whether this beats the best value so far; what is not a number loses to all that are."""
        if best is None or math.isnan(best):
            return True
        if math.isnan(self.value):
            return False
        return self.value > best if self.larger else self.value < best


class Task(nn.Module):
    """Networks and the losses that train them.

    Attributes:
        trained: names of the attributes that have an optimiser each.
        kept: names of further attributes whose state training changes without an optimiser.
    """

    trained: tuple[str, ...]
    kept: tuple[str, ...] = ()

    def losses(self, batch: Any, at: Progress) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield (trained attribute, named terms) in order; each is stepped before the next.

        The terms' sum is minimised over that attribute's parameters. Terms of a name beginning
        with ``_`` are only logged.
        """
        raise NotImplementedError

    def prepare(self, at: Progress) -> None:
        """Set what depends on the step, before its losses; nothing by default."""

    def modes(self) -> None:
        """Adjust training modes after ``train()``; nothing by default."""


def plain(module: nn.Module) -> nn.Module:
    """The module without its wrapper for many processes."""
    return cast(nn.Module, getattr(module, "module")) if _is_wrapped(module) else module  # noqa: B009


def _is_wrapped(module: nn.Module) -> bool:
    return isinstance(module, DistributedDataParallel)


class Trainer:
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
    ) -> None:
        self.task, self.optimisers, self.rates = task, dict(optimisers), dict(rates)
        self.device, self.dtype, self.half = device, dtype, half
        self.seed, self.rank = seed, rank
        self.scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
        if dist.size() > 1:
            for name in task.trained:
                setattr(task, name, DistributedDataParallel(getattr(task, name)))

    def step(self, batch: Any, at: Progress) -> dict[str, float]:
        """Train on one batch; give every term, averaged over processes, and ``loss``, their sum."""
        self.task.train()
        self.task.modes()
        self.task.prepare(at)
        entropy = np.random.SeedSequence([self.seed, at.step, self.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint32)[0]))
        logged: dict[str, Tensor] = {}
        for name, terms in self._phases(batch, at):
            optimiser = self.optimisers[name]
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name](at.step)
            loss = sum(
                (term for key, term in terms.items() if not key.startswith("_")),
                start=torch.zeros(()),
            )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(self.scaler.scale(loss))
            self.scaler.step(optimiser)
            logged |= {key: term.detach() for key, term in terms.items()}
        self.scaler.update()
        return averaged(logged)

    def _phases(self, batch: Any, at: Progress) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The task's losses, each phase in an autocast region of its own.

        One region around all would keep the half-precision copies of weights made before the
        first optimiser's step.
        """
        phases = self.task.losses(batch.to(self.device, self.dtype), at)
        while True:
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                phase = next(phases, None)
            if phase is None:
                return
            yield phase

    def state(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        return {
            "parts": {
                name: plain(getattr(self.task, name)).state_dict()
                for name in self.names + self.task.kept
            },
            "optimisers": {name: self.optimisers[name].state_dict() for name in self.names},
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        for name in self.names + self.task.kept:
            plain(getattr(self.task, name)).load_state_dict(state["parts"][name])
        for name in self.names:
            self.optimisers[name].load_state_dict(state["optimisers"][name])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])

    @property
    def names(self) -> tuple[str, ...]:
        """The trained attributes."""
        return self.task.trained

    def settle(self) -> None:
        """Put the task in evaluation mode, with the first process's statistics everywhere."""
        self.task.eval()
        for name in self.names:
            dist.share_buffers(plain(getattr(self.task, name)))

    @torch.no_grad()
    def evaluate(self, batches: Iterator[Any], at: Progress) -> dict[str, float]:
        """Average every term over all processes' samples, in evaluation mode."""
        self.settle()
        total: dict[str, float] = {}
        count = 0
        for batch in batches:
            weight = len(batch)
            count += weight
            for _, terms in self._phases(batch, at):
                for key, term in terms.items():
                    total[key] = total.get(key, 0.0) + weight * float(term)
        parts = dist.gather_rows([(total, count)])
        samples = sum(part[1] for part in parts)
        if not samples:
            raise UserError(
                "not one frame could be used to validate", "check the depth of the test frames"
            )
        names = sorted({name for part in parts for name in part[0]})
        means = {name: sum(p[0].get(name, 0.0) for p in parts) / samples for name in names}
        return _with_loss(means)


def averaged(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Terms averaged over processes, with ``loss``, the sum of those that are trained."""
    names = sorted(terms)
    stacked = torch.stack([terms[name].to(torch.float64) for name in names])
    return _with_loss(dict(zip(names, dist.mean(stacked).tolist(), strict=True)))


def _with_loss(terms: dict[str, float]) -> dict[str, float]:
    loss = math.fsum(value for name, value in terms.items() if not name.startswith("_"))
    return {"loss": loss} | {name.lstrip("_"): value for name, value in terms.items()}
