"""The process group of torchrun's processes; every function also works in a single process."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn import functional as dist_functional

from ffreid.engine.distributed import failures
from ffreid.engine.distributed.joining import (
    START_TIMEOUT,
    STORE_TIMEOUT,
    Facts,
    check_same,
    connect,
    environment_integer,
    rendezvous,
    restarts,
)
from ffreid.engine.tracking.run_folder import installed
from ffreid.errors import UserError, flat
from ffreid.report import log

Value = TypeVar("Value")
Gradient = Literal["own", "full"]

_restarted: bool | None = None


@dataclass(frozen=True)
class World:
    """This process: its `rank` among `size` processes, and its `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


@functools.cache
def _note_missing(devices: str) -> None:
    log(f"note: torch finds no GPU {devices}; the CPU computes")


@contextmanager
def process_group(facts: Facts | None = None, local: Facts | None = None) -> Iterator[World]:
    """Join torchrun's process group (NCCL on CUDA, gloo on CPU) for the block, if there is one.

    `facts` must be the same in all processes, and `local` facts in those of the same host.

    An inner block uses the outer block's group. After an error the group is not destroyed, since
    that may wait for processes that failed: `failures.exit_with` reports the error and exits.
    On Windows only a single process is supported.
    """
    global _restarted
    has_group = "RANK" in os.environ or os.environ.get("WORLD_SIZE", "1") != "1"
    rank, size = map(environment_integer, ("RANK", "WORLD_SIZE")) if has_group else (0, 1)
    cuda, place = torch.cuda.is_available(), os.environ.get("LOCAL_RANK", "0")
    world = World(rank, size, torch.device(f"cuda:{place}" if cuda else "cpu"))
    if cuda:
        torch.cuda.set_device(world.device)
    elif rank == 0 and (devices := os.environ.get("CUDA_VISIBLE_DEVICES")):
        _note_missing(devices)
    if dist.is_initialized() or not has_group:
        yield world
        return
    if sys.platform == "win32":
        raise UserError("cannot train in several processes on Windows", "use a single process")
    if rank >= size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE is {size}", "use RANK 0 to WORLD_SIZE - 1")
    by_hand = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    serves = by_hand and rank == 0
    store = connect(START_TIMEOUT, serve=serves)
    # A connection of its own: a collective may block the other one.
    watched = connect(STORE_TIMEOUT)
    facts = {
        "ffreid": installed("ffreid"),
        "torch": torch.__version__,
        "device": world.device.type,
        **(facts or {}),
    }
    try:
        start = rendezvous(watched, rank=rank, size=size, facts=facts, local=local, by_hand=by_hand)
    except RuntimeError as error:
        message = f"lost process 0 while the others were starting: {flat(str(error))[:200]}"
        raise UserError(message, "see its log") from error
    name, _restarted = start.name, start.restarted
    server = store if serves else None
    watched = dist.PrefixStore(f"ffreid/{name}", watched)  # type: ignore[attr-defined]
    with failures.watch(watched, rank=rank, places=start.places, server=server):
        start.check(rank)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=dist.PrefixStore(name, store),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            device_id=world.device if cuda else None,
        )
        yield world
    dist.destroy_process_group()
    _restarted = None


def restarted() -> bool:
    """Whether torchrun has restarted this run; the same in all processes in `process_group`."""
    return restarts() > 0 if _restarted is None else _restarted


def main_process_first(make: Callable[[], Value]) -> Value:
    """Call `make` in the first process, then in the others: it may download or write files."""
    if rank() > 0:
        barrier()
        return make()
    value = make()
    barrier()
    return value


def barrier() -> None:
    """Wait for all processes, e.g. before they read what the first one writes."""
    if size() > 1:
        dist.barrier()


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process; 0 without a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def mean(values: torch.Tensor) -> torch.Tensor:
    """Average elementwise over all processes."""
    if size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / size()


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the buffers of rank 0, such as running statistics, to all processes."""
    if size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def refuse_differences(find: Callable[[], Facts]) -> None:
    """Refuse to go on, in all processes, if the facts that `find` returns differ between them."""
    if size() > 1:
        check_same(gather_rows([find()]), rank())


def gather_rows(rows: Sequence[Any]) -> list[Any]:
    """Concatenate the rows of all processes, picklable objects, in rank order on every process."""
    if size() == 1:
        return list(rows)
    gathered: list[Any] = [None] * size()
    dist.all_gather_object(gathered, list(rows))
    return [row for rows in gathered for row in rows]


def gather_with_grad(rows: torch.Tensor, gradient: Gradient = "own") -> torch.Tensor:
    """Concatenate a tensor of all processes, in rank order on every process: (size x B, ...).

    Args:
        rows: (B, ...) of any type, with the same shape in every process.
        gradient: what `rows` receives from a loss of the result: "own", the gradient of this
            process's loss (as the authors of CAL train); "full", the sum over the losses of all
            processes, each of which must then call backward.
    """
    if size() == 1:
        return rows
    if gradient == "full":
        return torch.cat(dist_functional.all_gather(rows))  # type: ignore[no-untyped-call]
    gathered = [torch.empty_like(rows.contiguous()) for _ in range(size())]
    dist.all_gather(gathered, rows.detach().contiguous())
    gathered[rank()] = rows
    return torch.cat(gathered)


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
