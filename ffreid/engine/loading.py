"""Batches in an order that derives from (seed, epoch) alone, loaded by any number of workers."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ffreid.errors import UserError, flat

Key = tuple[int, int]
"""(epoch, position in the epoch): a training sample and its augmentation."""


class StepKeys:
    """The keys of this process's share of every step from `start` to `total`.

    The global batch of step s is the positions [i B, (i + 1) B) of its epoch, i = s mod the steps
    an epoch; process r of n takes the r-th of n equal parts.

    Raises:
        UserError: the batch cannot be shared equally.
    """

    def __init__(
        self, *, start: int, total: int, steps_per_epoch: int, batch: int, rank: int, size: int
    ) -> None:
        if batch % size:
            raise UserError(
                f"the {batch} samples of a step cannot be shared by {size} processes",
                f"make the batch a multiple of {size}",
            )
        self.steps = range(start, total)
        self.steps_per_epoch, self.batch = steps_per_epoch, batch
        self.share = range(rank * batch // size, (rank + 1) * batch // size)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            epoch, index = divmod(step, self.steps_per_epoch)
            yield [(epoch, index * self.batch + offset) for offset in self.share]

    def __len__(self) -> int:
        return len(self.steps)


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
        num_workers=min(workers, len(os.sched_getaffinity(0))),
        worker_init_fn=_one_thread,
    )
    with deaths_told():
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def deaths_told() -> Iterator[None]:
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


def _one_thread(_: int) -> None:
    """Keep workers from fighting over the cores."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
