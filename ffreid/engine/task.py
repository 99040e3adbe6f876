"""What a task gives the engine: networks with their losses, data, schedule and validation."""

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
from ffreid.engine.fingerprint import Item
from ffreid.errors import UserError

Images = Mapping[str, npt.NDArray[np.uint8]]
"""Images (H, W, 3), RGB, by name."""


@dataclass(frozen=True)
class Progress:
    """The current training step: number `step` (from 0) of `total`, in `epoch` (from 0)."""

    step: int
    total: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Length of training and size of its steps, over all processes.

    Attributes:
        batch_norm_group: samples that one batch norm sees together; micro-batches never split it.
    """

    batch: int
    steps_per_epoch: int
    total: int
    workers: int
    batch_norm_group: int = 1


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Outcome of an evaluation during training; `name` and `value` select the best state.

    Attributes:
        row: numbers for metrics.jsonl.
        results: everything, for validation-*.json; None if the row is all.
        measured: numbers for checkpoints, which keep them until the next evaluation.
        images: draws examples; called in the first process, if at all.
    """

    row: Mapping[str, float]
    name: str
    value: float
    higher_is_better: bool
    results: Mapping[str, Any] | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    images: Callable[[], Images] | None = None

    def selected_by(self, selection: str) -> "ValidationResult":
        """Select by another number of the row: ``NAME max`` or ``NAME min``; "" changes nothing.

        The name may lack the default's beginning: ``mAP`` is ``CC mAP`` if that is ``CC rank-1``.
        """
        if not selection:
            return self
        check_selection(selection, list(self.row))
        name, _, direction = selection.rpartition(" ")
        if name not in self.row:
            name = f"{self.name.rpartition(' ')[0]} {name}"
        return replace(self, name=name, value=self.row[name], higher_is_better=direction == "max")

    def better_than(self, best: float | None) -> bool:
        """Whether this beats the best value so far; any number beats NaN."""
        if best is None or math.isnan(best):
            return True
        if math.isnan(self.value):
            return False
        return self.value > best if self.higher_is_better else self.value < best


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value so far of the metric that selects checkpoints, and the steps done at it."""

    name: str
    value: float
    step: int | None = None


def check_selection(selection: str, known: Sequence[str]) -> None:
    """Refuse ``NAME max`` or ``NAME min`` of a number that evaluations do not give."""
    name = selection.rpartition(" ")[0]
    if not any(number == name or number.endswith(f" {name}") for number in known):
        raise UserError(
            f"TRAIN.SELECT: unknown metric {name!r}", f"choose one of: {', '.join(known)}"
        )


class Batch(Protocol):
    """Samples for a task."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples, for messages."""

    def __len__(self) -> int:
        """Count the samples."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Move to `device`; floating point tensors become `dtype`."""


@dataclass(frozen=True)
class Losses:
    """Scalar losses of one training phase, by name: the sum of `train` is minimised.

    Means over micro-batches and processes are logged, and sums of `count`.
    """

    train: Mapping[str, Tensor]
    log: Mapping[str, Tensor] = field(default_factory=dict)
    count: Mapping[str, Tensor] = field(default_factory=dict)


class Task(nn.Module):
    """Networks and the losses that train them."""

    optimized: tuple[str, ...]
    """Names of the attributes with an optimiser each, in the order of their phases."""
    extra_state: tuple[str, ...] = ()
    """Names of further attributes that training changes."""

    def losses(self, batch: Any, at: Progress) -> Iterator[tuple[str, Losses]]:
        """Yield (optimised attribute, losses) of each phase, which is stepped before the next.

        With micro-batches it is called for each of them, and once more for each further phase.
        """
        raise NotImplementedError

    def before_step(self, at: Progress) -> None:
        """Set what depends on the step; nothing by default."""

    def adjust_modes(self) -> None:
        """Adjust the modules' modes after ``train()``; nothing by default."""


class Sources(Protocol):
    """A task's module ``sources``: its datasets."""

    def open_source(self, cfg: CfgNode) -> Any:
        """Open the dataset; it has ``summary()``."""

    def check_source(self, cfg: CfgNode, source: Any) -> None:
        """Refuse early what would fail later."""

    def notes(self, cfg: CfgNode, source: Any) -> list[str]:
        """Lines for the user about the dataset and the settings."""

    def class_names(self, source: Any) -> list[str]:
        """Names of the classes, for checkpoints."""

    def checkpoint_entries(self, cfg: CfgNode, source: Any) -> dict[str, Any]:
        """What checkpoints hold of the dataset, besides the names of its classes."""

    def check_entries(self, source: Any, state: Mapping[str, Any], origin: str) -> None:
        """Refuse to resume from a checkpoint of another dataset, by such entries."""

    def synthetic_folder(self, cfg: CfgNode) -> Path | None:
        """Folder of synthetic data; None for real datasets."""


class Build(Protocol):
    """A task's module ``build``: from the configuration to what trains."""

    FREE_TO_CHANGE: tuple[str, ...]

    def training_set(self, cfg: CfgNode, source: Any) -> Any:
        """Training samples by (epoch, position)."""

    def collate(self, samples: Any) -> Batch:
        """Stack samples."""

    def data_items(self, cfg: CfgNode, source: Any) -> Sequence[Item]:
        """Names, files and labels of the samples for training and its evaluations."""

    def plan(self, cfg: CfgNode, data: Any) -> Plan:
        """Length of training."""

    def build_task(
        self, cfg: CfgNode, source: Any, device: torch.device, *, resumed: bool = False
    ) -> Task:
        """Networks and losses on `device`."""

    def build_optimisers(self, cfg: CfgNode, task: Any) -> dict[str, Optimizer]:
        """An optimiser for each optimised attribute."""

    def rates(self, cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
        """Learning rates as functions of the step."""

    def original_entries(
        self, train_step: Any, epoch: int, measured: Mapping[str, float]
    ) -> dict[str, Any]:
        """Further checkpoint entries, named as those of the reference implementation."""


class Validation(Protocol):
    """A task's module ``validation``: evaluation during training."""

    def due(self, cfg: CfgNode, plan: Plan, done: int) -> bool:
        """Whether to evaluate after `done` steps."""

    def validate(
        self, cfg: CfgNode, world: World, source: Any, train_step: Any, at: Progress
    ) -> ValidationResult:
        """Evaluate the current networks, over all processes."""

    def numbers(self, cfg: CfgNode, source: Any) -> Sequence[str]:
        """Names of the numbers in an evaluation's row."""

    def one_batch(self, cfg: CfgNode, world: World, source: Any, train_step: Any) -> object:
        """Evaluate one batch, for a dry run."""

    def epoch_line(
        self, means: dict[str, float], epoch: int, seconds: float, waited: float
    ) -> str | None:
        """Log line of the reference implementation after an epoch, if it has one."""

    def finish(self, cfg: CfgNode, world: World, folder: Path) -> None:
        """Evaluate and report the best checkpoint of a finished run."""


@dataclass(frozen=True)
class TaskModules:
    """Modules of a task that the trainer uses."""

    sources: Sources
    build: Build
    validation: Validation


def unwrap(module: nn.Module) -> nn.Module:
    """The module without DistributedDataParallel around it."""
    if isinstance(module, DistributedDataParallel):
        return cast(nn.Module, module.module)
    return module


def stateful_modules(task: Task) -> dict[str, nn.Module]:
    """Everything of a task that training changes, unwrapped, by attribute."""
    return {name: unwrap(getattr(task, name)) for name in (*task.optimized, *task.extra_state)}
