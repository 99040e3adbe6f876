"""Batches in an order derived from (seed, epoch), loaded by any number of workers."""

import gc
import multiprocessing
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ffreid.engine import signals
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import cores
from ffreid.engine.task import Plan
from ffreid.errors import UserError, flat

Collate = Callable[[list[Any]], Any]
WAIT_TO_STOP = 10.0
"""Seconds that a process which is asked to stop waits for a batch."""
LONGEST_WAIT = 600.0
"""Seconds without a batch after which the data workers are taken to hang."""
WATCH_EVERY = 1.0
"""Seconds between two looks at a wait."""
SHARED = "/dev/shm"
REMEDY = "set DATA.NUM_WORKERS 0 (pose: DATA.WORKERS 0) to load in the main process"
NOT_RECEIVED = re.compile(
    r"^(?!Caught).*(too many open files|items of ancdata|unable to (mmap|open|resize))", re.I
)
"""How torch and Python report batches that do not reach the main process."""

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
    dataset: Any,
    keys: StepKeys | Sequence[list[Any]],
    collate: Collate,
    *,
    workers: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Any]:
    """Load and collate the samples of each list of keys, in order.

    `stop` says whether to stop, instead of waiting longer than `WAIT_TO_STOP` for a batch.

    Raises:
        UserError: raised by the dataset in any worker, or workers died, hang or cannot send.
        NoBatch: asked to stop.
    """
    count = min(workers, cores())  # more only wait for each other, and torch warns about them
    loader: DataLoader[Any] = DataLoader(
        _Batches(dataset, collate),
        batch_size=None,
        sampler=keys,
        collate_fn=_unchanged,
        num_workers=count,
        worker_init_fn=_init_worker,
    )
    with worker_errors():
        try:
            # First, since torch prints a traceback where it cannot make its own.
            [multiprocessing.Queue() for _ in range(count and count + 2)]
            before = multiprocessing.active_children()
            gc.freeze()  # a worker would collect, and so end, what is left of other streams
            with signals.block_signals():
                batches = iter(loader)
        except (OSError, RuntimeError) as error:
            raise _sharing_error(str(error)) from error
        finally:
            gc.unfreeze()
        watchdog = _Watchdog({*multiprocessing.active_children()} - {*before}, stop)
        try:
            while (batch := watchdog.next(batches)) is not None:
                if isinstance(batch, UserError | NoBatch):
                    raise batch
                yield batch
        finally:
            watchdog.ended.set()
            del batches  # ends the workers


class NoBatch(Exception):
    """Asked to stop while waiting for a batch."""


class _Watchdog:
    """Kills the workers when a batch is late: only that always wakes a process waiting for one."""

    def __init__(self, workers: Collection[BaseProcess], stop: Callable[[], bool]) -> None:
        self.workers, self.stop, self.ended = workers, stop, threading.Event()
        self.late: UserError | NoBatch | None = None
        self.since: float | None = None
        if workers:
            threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """Watch until a batch is late, or `ended`."""
        while not self.ended.wait(WATCH_EVERY):
            since, stop = self.since, self.stop()
            if since is None or (waited := time.monotonic() - since) < (
                WAIT_TO_STOP if stop else LONGEST_WAIT
            ):
                continue
            hint = f"check the disk or network that holds the data; {REMEDY}"
            error = UserError(f"the data workers have sent no batch for {waited:.0f} s", hint)
            self.late = NoBatch() if stop else error
            for worker in self.workers:
                worker.kill()
            return

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch or the error instead of it; None at the end."""
        self.since = time.monotonic()
        try:
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:
            if self.late is None and not NOT_RECEIVED.search(str(error)):
                raise
            return self.late or _sharing_error(str(error))
        finally:
            self.since = None


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
            f"often for lack of memory or of space in {SHARED}: {REMEDY}",
        ) from error


def _sharing_error(reason: str) -> UserError:
    """Return the error for workers that cannot start or cannot send their batches."""
    if "No space left" in reason and Path(SHARED).is_dir():
        space = shutil.disk_usage(SHARED)
        size, free = (f"{number / 2**20:.0f} MB" for number in (space.total, space.free))
        return UserError(
            f"{SHARED} is too small for the batches of data workers ({size}, {free} free)",
            f"{REMEDY}, or use smaller batches; in Docker, add --shm-size 8g",
        )
    return UserError(f"data workers cannot start or send batches: {flat(reason)}", REMEDY)


def evaluation_stream(
    dataset: Any, collate: Collate, *, batch: int, workers: int, rank: int, size: int
) -> Iterator[Any]:
    """Load this process's share of an evaluation set: samples rank, rank + size, …"""
    group.refuse_differences(lambda: {"the number of samples to evaluate": len(dataset)})
    indices = list(range(rank, len(dataset), size))
    keys = [indices[i : i + batch] for i in range(0, len(indices), batch)]
    return stream(dataset, keys, collate, workers=workers)


def _send_error(queue: Any, error: Exception, item: tuple[int, Any]) -> None:
    """Send an error instead of a batch that cannot be sent, for which all would wait."""
    queue.put((item[0], _sharing_error(str(error))))


def _init_worker(_: int) -> None:
    signals.ignore_signals_in_worker()
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]
    import cv2

    torch.set_num_threads(1)  # workers would compete for the cores
    cv2.setNumThreads(0)
