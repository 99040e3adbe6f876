"""The process group of torchrun's processes; every function also works in a single process."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn import functional as dist_functional

from ffreid.engine.distributed import failures
from ffreid.engine.distributed.failures import Place
from ffreid.errors import UserError

Value = TypeVar("Value")
Gradient = Literal["own", "full"]
START_TIMEOUT = timedelta(minutes=10)
"""How long processes wait for each other to start."""
STORE_TIMEOUT = timedelta(seconds=10)
"""How long one request to the run's store may take."""
POLL = 0.02

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


@contextmanager
def process_group() -> Iterator[World]:
    """Join torchrun's process group (NCCL on CUDA, gloo on CPU) for the block, if there is one.

    An inner block uses the outer block's group. After an error the group is not destroyed, since
    that may wait for processes that failed: `failures.exit_with` reports the error and exits.
    On Windows only a single process is supported.
    """
    global _restarted
    rank = int(os.environ.get("RANK", "0"))
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
    world = World(rank, size, torch.device(device))
    if cuda:
        torch.cuda.set_device(world.device)
    if dist.is_initialized() or (size == 1 and "RANK" not in os.environ):
        yield world
        return
    if sys.platform == "win32":
        raise UserError("cannot train in several processes on Windows", "use a single process")
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = _connect(START_TIMEOUT, serve=serves)
    # A connection of its own: a collective may block the other one.
    watched = _connect(STORE_TIMEOUT)
    name, places, _restarted = rendezvous(watched, rank=rank, size=size, timeout=START_TIMEOUT)
    server = store if serves else None
    watched = dist.PrefixStore(f"ffreid/{name}", watched)  # type: ignore[attr-defined]
    with failures.watch(watched, rank=rank, places=places, server=server):
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
    return _restarts() > 0 if _restarted is None else _restarted


def rendezvous(
    store: Any, *, rank: int, size: int, timeout: timedelta
) -> tuple[str, list[Place], bool]:
    """Wait for all processes of this start.

    torchrun keeps one store for all its restarts (torch 2.14 does), and its count of restarts
    differs between nodes. So each process joins with a random token, and takes rank 0's answer
    only if it lists that token.

    Returns a name unique to this start; the places of all processes, in rank order; whether the
    run was started before. If a process does not join in time, a RuntimeError is raised.
    """
    token = uuid.uuid4().hex
    joined = json.dumps({"token": token, "restarts": _restarts(), "place": failures.local_place()})
    keys = [f"ffreid/joined/{other}" for other in range(size)]
    started_before = False
    if rank == 0:
        started_before = store.add("ffreid/starts", 1) > 1
        for key in keys:
            store.delete_key(key)
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        store.set(keys[rank], joined)  # repeatedly: rank 0 deletes the keys of earlier starts
        if rank == 0 and store.check(keys):
            processes = [json.loads(store.get(key)) for key in keys]
            restarted = started_before or any(process["restarts"] for process in processes)
            store.set("ffreid/start", json.dumps({"processes": processes, "restarted": restarted}))
        if store.check(["ffreid/start"]):
            start = json.loads(store.get("ffreid/start"))
            processes = start["processes"]
            if any(process["token"] == token for process in processes):
                places = [(host, pid) for host, pid in (one["place"] for one in processes)]
                return processes[0]["token"], places, start["restarted"]
        time.sleep(POLL)
    raise RuntimeError(f"timed out waiting for all {size} processes to start")


def _connect(timeout: timedelta, *, serve: bool = False) -> Any:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=serve, timeout=timeout, wait_for_workers=False
    )


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


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
