"""Batches in an order derived from (seed, epoch), loaded by any number of workers."""

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

Collate = Callable[[list[Any]], Any]
Key = tuple[int, int]
"""(epoch, position in the epoch): a training sample and its augmentation."""


class StepKeys:
    """Batch sampler: this process's keys for the steps from `start` to `total`.

    The global batch of step s holds the positions [i B, (i + 1) B) of its epoch, with i = s modulo
    the steps per epoch. Process r of n takes the r-th of n equal shares and splits it into micro
    batches of complete batch-norm groups, the last of which may hold fewer samples.

    Raises:
        UserError: the batch cannot be divided among the processes or into the micro batches.
    """

    def __init__(
        self, *, start: int, total: int, plan: Plan, micro_batches: int = 1, rank: int, size: int
    ) -> None:
        if plan.batch % size:
            raise UserError(
                f"a batch of {plan.batch} samples cannot be divided among {size} processes",
                f"use a batch size that is a multiple of {size}",
            )
        share = plan.batch // size
        groups = -(-share // plan.batch_norm_group)
        groups_each = -(-groups // micro_batches)
        if -(-groups // groups_each) != micro_batches:
            possible = [n for n in range(1, groups + 1) if -(-groups // -(-groups // n)) == n]
            raise UserError(
                f"{share} samples per process cannot be split into {micro_batches} micro batches "
                f"of complete batch-norm groups ({plan.batch_norm_group} samples each)",
                f"set TRAIN.ACCUMULATE to one of: {', '.join(map(str, possible))}",
            )
        self.steps, self.micro_batches, self.plan = range(start, total), micro_batches, plan
        offsets = range(rank * share, (rank + 1) * share)
        each = groups_each * plan.batch_norm_group
        self.offsets = [offsets[first : first + each] for first in range(0, share, each)]

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            epoch, index = divmod(step, self.plan.steps_per_epoch)
            for offsets in self.offsets:
                yield [(epoch, index * self.plan.batch + offset) for offset in offsets]

    def __len__(self) -> int:
        return len(self.steps) * self.micro_batches


class OverfitDataset(Dataset[Any]):
    """The first `count` samples of a training set's first epoch, repeated in every epoch."""

    def __init__(self, dataset: Any, count: int) -> None:
        self.dataset, self.count = dataset, count

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        return self.dataset[0, key[1] % self.count]


def group_by_step(batches: Iterator[Any], micro_batches: int) -> Iterator[list[Any]]:
    """Group the micro batches of each step into a list."""
    while step := list(islice(batches, micro_batches)):
        yield step


class _Batches(Dataset[Any]):
    """Batches, or the UserError of one, which a DataLoader would turn into text."""

    def __init__(self, dataset: Any, collate: Collate) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitem__(self, keys: list[Any]) -> Any:
        try:
            return self.collate([self.dataset[key] for key in keys])
        except UserError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def stream(
    dataset: Any, keys: StepKeys | Sequence[list[Any]], collate: Collate, *, workers: int
) -> Iterator[Any]:
    """Load and collate the samples of each list of keys, in order.

    Raises:
        UserError: raised by the dataset in any worker, or a worker died.
    """
    loader: DataLoader[Any] = DataLoader(
        _Batches(dataset, collate),
        batch_size=None,
        sampler=keys,
        collate_fn=_unchanged,
        # More workers than cores only wait for each other, and torch warns about them.
        num_workers=min(workers, cores()),
        worker_init_fn=_init_worker,
    )
    with worker_errors():
        with signals.block_signals():
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turn the death of a data worker into a UserError.

    Use it around code that consumes a `stream` too: torch raises it wherever the main process is.
    """
    try:
        yield
    except RuntimeError as error:
        # Exceptions of the dataset's code say "DataLoader worker process 0", without a pid.
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError(
            f"a data worker died: {flat(str(error))}",
            "often for lack of memory or of space in /dev/shm: reduce DATA.WORKERS; 0 loads in the "
            "main process",
        ) from error


def evaluation_stream(
    dataset: Any, collate: Collate, *, batch: int, workers: int, rank: int, size: int
) -> Iterator[Any]:
    """Load this process's share of an evaluation set: samples rank, rank + size, …"""
    indices = list(range(rank, len(dataset), size))
    keys = [indices[i : i + batch] for i in range(0, len(indices), batch)]
    return stream(dataset, keys, collate, workers=workers)


def _init_worker(_: int) -> None:
    signals.ignore_signals_in_worker()
    import cv2

    torch.set_num_threads(1)  # workers would compete for the cores
    cv2.setNumThreads(0)
