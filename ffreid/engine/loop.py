"""A task says which losses train which of its parts; the one loop does everything else."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


class Task(nn.Module):
    """Networks and the losses that train them.

    Attributes:
        trained: names of the attributes that have an optimiser each.
    """

    trained: tuple[str, ...]

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
        seed: int,
        rank: int = 0,
    ) -> None:
        self.task, self.optimisers, self.rates = task, dict(optimisers), dict(rates)
        self.device, self.dtype, self.seed, self.rank = device, dtype, seed, rank
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
        for name, terms in self.task.losses(batch.to(self.device, self.dtype), at):
            optimiser = self.optimisers[name]
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name](at.step)
            loss = sum(
                (term for key, term in terms.items() if not key.startswith("_")),
                start=torch.zeros(()),
            )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            logged |= {key: term.detach() for key, term in terms.items()}
        return averaged(logged)

    def state(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        return {
            "parts": {name: plain(getattr(self.task, name)).state_dict() for name in self.names},
            "optimisers": {name: self.optimisers[name].state_dict() for name in self.names},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        for name in self.names:
            plain(getattr(self.task, name)).load_state_dict(state["parts"][name])
            self.optimisers[name].load_state_dict(state["optimisers"][name])

    @property
    def names(self) -> tuple[str, ...]:
        """The trained attributes."""
        return self.task.trained

    @torch.no_grad()
    def evaluate(self, batches: Iterator[Any], at: Progress) -> dict[str, float]:
        """Average every term over all processes' samples, in evaluation mode."""
        self.task.eval()
        for name in self.names:
            dist.share_buffers(plain(getattr(self.task, name)))
        total: dict[str, float] = {}
        count = 0
        for batch in batches:
            weight = len(batch)
            count += weight
            for _, terms in self.task.losses(batch.to(self.device, self.dtype), at):
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
