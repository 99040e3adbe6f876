"""One path for one process or many: the group is joined if torchrun's environment is there."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous as torch_rendezvous

from ffreid.engine.distributed import failures, rendezvous
from ffreid.engine.distributed.rendezvous import Meeting
from ffreid.engine.distributed.watchdog import Peers

Made = TypeVar("Made")
Gradient = Literal["own", "full"]
TIMEOUT = timedelta(minutes=10)
"""How long processes wait for each other to start."""
ANSWER = timedelta(seconds=10)
"""How long a question to the run's store may take."""

_served: Any = None  # the store, in the first process where no agent serves it
_again: bool | None = None


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, on device `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


@contextmanager
def process_group() -> Iterator[World]:
    """Join torchrun's process group (NCCL on CUDA, gloo on CPU) for the block, or stay alone.

    Inside another such block it is that block's group: torchrun's processes meet only once, a
    second meeting would wait for ever. After an error the group stays as it is, since undoing it
    may wait for processes that failed: `ending.end` says the error and ends the process.
    """
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if dist.is_initialized() or (size == 1 and "RANK" not in os.environ):
        yield World(rank, size, device)
        return
    met = _meet()
    # The name keeps torch's own keys apart from those of processes before a restart.
    store = dist.PrefixStore(met.name, _connected(TIMEOUT))  # type: ignore[attr-defined]
    backend, bound = ("nccl", device) if cuda else ("gloo", None)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, device_id=bound)
    yield World(rank, size, device)
    _leave()


def restarted() -> bool:
    """Whether torchrun has restarted this run; all processes agree inside `process_group`."""
    if _again is not None:
        return _again
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _meet() -> Meeting:
    """Find the others, and end with them from now on."""
    global _served, _again
    _served, rank, size = next(torch_rendezvous("env://"))
    store = _connected(ANSWER)
    met = rendezvous.meet(store, rank=rank, size=size, seconds=TIMEOUT.total_seconds())
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    failures.enter(Peers(store, rank=rank, places=met.places, name=met.name, serves=serves))
    _again = met.again
    return met


def _leave() -> None:
    global _served, _again
    failures.leave()
    dist.destroy_process_group()
    _served = _again = None


def _connected(timeout: timedelta) -> Any:
    """A connection of its own to the run's store: a collective may hold up another one."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, timeout=timeout)  # type: ignore[attr-defined]


def main_process_first(make: Callable[[], Made]) -> Made:
    """Call `make` in the first process, then in the others: it may fetch or write files."""
    if size() == 1:
        return make()
    if dist.get_rank() == 0:
        made = make()
        dist.barrier()
        return made
    dist.barrier()
    return make()


def barrier() -> None:
    """Wait until every process is here, so that what the first one wrote can be read."""
    if size() > 1:
        dist.barrier()


def size() -> int:
    """Number of processes; 1 when alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Give this process's place among all; 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def mean(values: torch.Tensor) -> torch.Tensor:
    """Average over processes, elementwise; the identity when alone."""
    if size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / size()


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers (running statistics differ between them)."""
    if size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_rows(rows: Sequence[Any]) -> list[Any]:
    """All processes' rows, in rank order, on every process; the identity when alone.

    The rows are plain Python data; they carry an index of their own to be sorted by.
    """
    if size() == 1:
        return list(rows)
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, list(rows))
    return [row for part in parts for row in part]


def gather_with_grad(rows: torch.Tensor, gradient: Gradient = "own") -> torch.Tensor:
    """All processes' rows, in rank order, on every process; the identity when alone.

    Args:
        rows: (B, ...) of any type, B and the rest alike in every process.
        gradient: what reaches `rows` from a loss of the gathered: "own", only this process's loss
            (as the authors of CAL train); "full", the sum over all processes' losses, all of
            which must then propagate.

    Returns:
        (size x B, ...).
    """
    if size() == 1:
        return rows
    gathered: torch.Tensor = _Gather.apply(rows, gradient)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, gradient: Gradient) -> torch.Tensor:
        ctx.summed = {"own": False, "full": True}[gradient]
        ctx.count = len(rows)
        mine = rows.contiguous()
        parts = [torch.empty_like(mine) for _ in range(size())]
        dist.all_gather(parts, mine)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (total,) = grads
        if ctx.summed:
            total = total.contiguous().clone()
            dist.all_reduce(total)
        return total.narrow(0, rank() * ctx.count, ctx.count), None


def cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
