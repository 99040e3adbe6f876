"""Batches in an order that derives from (seed, epoch) alone, loaded by any number of workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ffreid.engine import signals
from ffreid.engine.distributed.group import cores
from ffreid.engine.task import Plan
from ffreid.errors import UserError, flat

Key = tuple[int, int]
"""(epoch, position in the epoch): a training sample and its augmentation."""


class StepKeys:
    """The keys of this process's share of every step from `start` to `total`, part by part.

    The global batch of step s is the positions [i B, (i + 1) B) of its epoch, i = s mod the steps
    an epoch; process r of n takes the r-th of n equal parts.

    Args:
        start: first step.
        total: step behind the last.
        plan: samples a step, steps an epoch.
        parts: how many parts a process makes of its share; the last may hold fewer samples.
        rank: of this process.
        size: number of processes.

    Attributes:
        steps: the range of steps.
        parts: lists of keys a step.

    Raises:
        UserError: the batch cannot be shared equally, or not be cut in so many parts.
    """

    def __init__(
        self, *, start: int, total: int, plan: Plan, parts: int = 1, rank: int, size: int
    ) -> None:
        if plan.batch % size:
            raise UserError(
                f"the {plan.batch} samples of a step cannot be shared by {size} processes",
                f"make the batch a multiple of {size}",
            )
        share = plan.batch // size
        whole = -(-share // plan.batch_norm_group)
        each = -(-whole // parts)
        if parts > 1 and -(-whole // each) != parts:
            fitting = [n for n in range(1, whole + 1) if -(-whole // -(-whole // n)) == n]
            raise UserError(
                f"the {share} samples of a process's step cannot be cut into {parts} parts of "
                f"whole batch-norm groups ({plan.batch_norm_group} samples each)",
                f"set TRAIN.ACCUMULATE to one of: {', '.join(map(str, fitting))}",
            )
        self.steps, self.parts = range(start, total), parts
        self.plan = plan
        cuts = range(rank * share, (rank + 1) * share)
        self.ranges = [
            cuts[first : first + each * plan.batch_norm_group]
            for first in range(0, share, each * plan.batch_norm_group)
        ]

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            epoch, index = divmod(step, self.plan.steps_per_epoch)
            for part in self.ranges:
                yield [(epoch, index * self.plan.batch + offset) for offset in part]

    def __len__(self) -> int:
        return len(self.steps) * self.parts


class Overfit(Dataset[Any]):
    """The same few samples of a training set, augmented in the same way, for ever.

    Args:
        dataset: samples by (epoch, position).
        count: how many of the first epoch's first.
    """

    def __init__(self, dataset: Any, count: int) -> None:
        self.dataset, self.count = dataset, count

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        return self.dataset[0, key[1] % self.count]


def in_steps(batches: Iterator[Any], parts: int) -> Iterator[list[Any]]:
    """Put the parts of each step together."""
    while step := list(islice(batches, parts)):
        yield step


class _Guarded(Dataset[Any]):
    """Hands a user's mistake over as an item: a loader would turn it into text in transit."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


class _GuardedCollate:
    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        mistakes = [item for item in items if isinstance(item, UserError)]
        try:
            return mistakes[0] if mistakes else self.collate(items)
        except UserError as error:
            return error


def stream(
    dataset: Any,
    keys: StepKeys | Sequence[list[Any]],
    collate: Callable[[list[Any]], Any],
    *,
    workers: int,
) -> Iterator[Any]:
    """Load the samples of each list of keys and stack them, in order.

    Raises:
        UserError: raised by the data set in whatever process, or a worker died.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(dataset),
        batch_sampler=keys,
        collate_fn=_GuardedCollate(collate),
        # More workers than cores only wait for each other, and torch warns of them.
        num_workers=min(workers, cores()),
        worker_init_fn=_start_worker,
    )
    with worker_errors():
        with signals.held():
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def worker_errors() -> Iterator[None]:
    """Tell of a data worker's death as the user's error.

    Put it around what consumes a `stream` too: torch raises wherever the main process is just then.

    Raises:
        UserError: a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        # Errors in the data set's own code are of "DataLoader worker process 0", without a pid.
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError(
            f"a data worker died: {flat(str(error))}",
            "often memory or /dev/shm ran out: set fewer data workers, or 0 to load right here",
        ) from error


def evaluation_stream(
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    *,
    batch: int,
    workers: int,
    rank: int,
    size: int,
) -> Iterator[Any]:
    """Load this process's share of an evaluation, samples rank, rank + size, …: none twice."""
    mine = list(range(rank, len(dataset), size))
    keys = [mine[i : i + batch] for i in range(0, len(mine), batch)]
    return stream(dataset, keys, collate, workers=workers)


def _start_worker(_: int) -> None:
    """Keep a worker from fighting over the cores, and from dying before its parent."""
    signals.leave_to_parent()
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
