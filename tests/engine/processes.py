"""Run a function in a group of processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

SIZE = 2


def in_processes(
    work: Callable[[int], Any], folder: Path, *, size: int = SIZE, backend: str = "gloo"
) -> list[Any]:
    """Call ``work(rank)`` in `size` processes and return their results in rank order.

    `work` is a module's function that returns tensors, numbers, strings, lists or dicts; `folder`
    is empty.
    """
    spawn(_joined, (work, folder, size, backend), nprocs=size)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(size)]


def _joined(rank: int, work: Callable[[int], Any], folder: Path, size: int, backend: str) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if backend == "nccl" else None
    if device is not None:
        torch.cuda.set_device(device)
    method = (folder / "rendezvous").as_uri()
    dist.init_process_group(
        backend, init_method=method, rank=rank, world_size=size, device_id=device
    )
    try:
        torch.save(work(rank), folder / f"{rank}.pth")
        dist.barrier()
    finally:
        dist.destroy_process_group()
