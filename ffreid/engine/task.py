"""What a task is to the engine: networks, the losses that train them, and the rooms it brings."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from yacs.config import CfgNode

from ffreid.engine.distributed.group import World
from ffreid.errors import UserError

Pictures = Mapping[str, npt.NDArray[np.uint8]]
"""Pictures (H, W, 3), RGB, by name."""


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
        granule: samples that one batch norm sees together and no part of a step may cut apart.
    """

    batch: int
    steps_per_epoch: int
    total: int
    workers: int
    batch_norm_group: int = 1


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """What an evaluation during training found.

    Attributes:
        row: numbers for metrics.jsonl.
        name: of the number that selects the best state.
        value: that number.
        larger: whether a larger one is better.
        results: all that was found, to be kept in a file; None for nothing more than the row.
        kept: numbers that checkpoints hold until the next evaluation.
        pictures: draws a few of what was found; called in the first process, if at all.
    """

    row: Mapping[str, float]
    name: str
    value: float
    larger: bool
    results: Mapping[str, Any] | None = None
    kept: Mapping[str, float] = field(default_factory=dict)
    pictures: Callable[[], Pictures] | None = None

    def selected_by(self, wish: str) -> "ValidationResult":
        """Let another number of the row select: ``NAME max`` or ``NAME min``; "" changes nothing.

        Raises:
            UserError: the row has no such number.
        """
        if not wish:
            return self
        check_selectable(wish, list(self.row))
        name, _, direction = wish.rpartition(" ")
        return replace(self, name=name, value=self.row[name], larger=direction == "max")

    def better_than(self, best: float | None) -> bool:
        """Whether this beats the best value so far; what is not a number loses to all that are."""
        if best is None or math.isnan(best):
            return True
        if math.isnan(self.value):
            return False
        return self.value > best if self.larger else self.value < best


def check_selectable(wish: str, known: Sequence[str]) -> None:
    """Refuse ``NAME max`` or ``NAME min`` of a number that evaluations do not give.

    Raises:
        UserError: naming those that they do.
    """
    name = wish.rpartition(" ")[0]
    if name not in known:
        raise UserError(
            f"TRAIN.SELECT names {name!r}, which an evaluation does not give",
            f"choose one of: {', '.join(known)}",
        )


class Batch(Protocol):
    """Samples on their way to a task."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the samples are called, for messages."""

    def __len__(self) -> int:
        """Count the samples."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Move to `device`; floating point tensors become `dtype`."""


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
        with ``_`` are only logged; so are those with ``#``, counts that are added up over parts and
        processes where others are averaged. Called once for every part of a step that is
        accumulated, and once more for each attribute after the first.
        """
        raise NotImplementedError

    def prepare(self, at: Progress) -> None:
        """Set what depends on the step, before its losses; nothing by default."""

    def modes(self) -> None:
        """Adjust training modes after ``train()``; nothing by default."""


class Sources(Protocol):
    """A task's module ``sources``: its data sets."""

    def open_source(self, cfg: CfgNode) -> Any:
        """Open the data set; it has ``summary()``."""

    def check_source(self, cfg: CfgNode, source: Any) -> None:
        """Refuse now what would fail later."""

    def notes(self, cfg: CfgNode, source: Any) -> list[str]:
        """Say what people should know of the data set and the settings, a line each."""

    def class_names(self, source: Any) -> list[str]:
        """What training tells apart, for checkpoints."""

    def synthetic_folder(self, cfg: CfgNode) -> Path | None:
        """Give the folder of synthetic data; None for real data sets."""


class Build(Protocol):
    """A task's module ``build``: from the configuration to what trains."""

    FREE_TO_CHANGE: tuple[str, ...]

    def training_set(self, cfg: CfgNode, source: Any) -> Any:
        """Give the samples to train on, by (epoch, position)."""

    def collate(self, samples: Any) -> Batch:
        """Stack samples."""

    def plan(self, cfg: CfgNode, data: Any) -> Plan:
        """Say how long training is."""

    def build_task(
        self, cfg: CfgNode, source: Any, device: torch.device, *, resumed: bool = False
    ) -> Task:
        """Make networks and losses on `device`."""

    def build_optimisers(self, cfg: CfgNode, task: Any) -> dict[str, Optimizer]:
        """Make an optimiser for each trained part."""

    def rates(self, cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
        """Give learning rates as functions of the step."""

    def original_entries(
        self, train_step: Any, epoch: int, measured: Mapping[str, float]
    ) -> dict[str, Any]:
        """Give what checkpoints hold further under names of the original."""


class Validation(Protocol):
    """A task's module ``validation``: what is measured while training goes on."""

    def due(self, cfg: CfgNode, plan: Plan, done: int) -> bool:
        """Whether to evaluate after `done` steps."""

    def validate(
        self, cfg: CfgNode, world: World, source: Any, train_step: Any, at: Progress
    ) -> ValidationResult:
        """Evaluate the networks as they stand, over all processes."""

    def numbers(self, cfg: CfgNode, source: Any) -> Sequence[str]:
        """Name the numbers of an evaluation's row."""

    def one_batch(self, cfg: CfgNode, world: World, source: Any, train_step: Any) -> object:
        """Evaluate a single batch, for a dry run; give what it came to."""

    def epoch_line(
        self, means: dict[str, float], epoch: int, seconds: float, waited: float
    ) -> str | None:
        """Give the original's line of log, where it has one."""


@dataclass(frozen=True)
class TaskModules:
    """What the trainer takes from a task."""

    sources: Sources
    build: Build
    validation: Validation


def plain(module: nn.Module) -> nn.Module:
    """The module without its wrapper for many processes."""
    if isinstance(module, DistributedDataParallel):
        return cast(nn.Module, module.module)
    return module


def trained_modules(task: Task) -> dict[str, nn.Module]:
    """Give everything of a task that training changes, without wrappers, by attribute."""
    return {name: plain(getattr(task, name)) for name in (*task.trained, *task.kept)}
