"""Run a function in a gloo group of two processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

SIZE = 2


def in_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Call ``work(rank)`` in `SIZE` processes and return their results in rank order.

    Args:
        work: a module's function that returns tensors, numbers, strings, lists or dicts.
        folder: an empty folder for the rendezvous and the results.
    """
    spawn(_joined, (work, folder), nprocs=SIZE)  # type: ignore[no-untyped-call]
    return [torch.load(_result(folder, rank), weights_only=True) for rank in range(SIZE)]


def _joined(rank: int, work: Callable[[int], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=(folder / "rendezvous").as_uri(), rank=rank, world_size=SIZE
    )
    try:
        torch.save(work(rank), _result(folder, rank))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _result(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.pth"
