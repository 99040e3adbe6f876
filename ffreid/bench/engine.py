"""Time of what both tasks share: start-up, the training loop, checkpoints."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from ffreid.engine.checkpoints import io
from ffreid.engine.task import Losses, Progress, Task
from ffreid.engine.timing import in_turn, measure_alone, row
from ffreid.engine.train_step import TrainStep

STEPS = 50


def engine_rows(quick: bool) -> list[dict[str, Any]]:
    """Time them on the CPU; rows against plain PyTorch alternate with it."""
    return [
        _start_up(),
        *_loop(3 if quick else 21),
        _checkpoint(1 << (18 if quick else 26), 1 if quick else 5),
    ]


def _start_up() -> dict[str, Any]:
    """CPU time of ``ffreid --help``; of a child of this process."""

    def used() -> float:
        times = os.times()
        return times.children_user + times.children_system

    before = used()
    command = [sys.executable, "-m", "ffreid", "--help"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return row("ffreid --help, CPU time", 1000 * (used() - before), part=True)


class _Batch:
    def __init__(self) -> None:
        self.x = torch.ones(4, 8)
        self.names = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, dtype: torch.dtype) -> "_Batch":
        return self


class _Tiny(Task):
    def __init__(self) -> None:
        super().__init__()
        self.optimized = ("net",)
        self.net = nn.Linear(8, 8)

    def losses(self, batch: _Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
        yield "net", Losses(train={"loss": self.net(batch.x).square().mean()})


def _loop(repeats: int) -> list[dict[str, Any]]:
    """A step of a tiny network in the loop of ffreid, and in a bare one with the same optimiser."""
    task, batch = _Tiny(), _Batch()
    optimiser = Adam(task.net.parameters(), lr=1e-6)
    rates = {"net": lambda step: 1e-6}
    cpu = torch.device("cpu")
    train_step = TrainStep(task, {"net": optimiser}, rates, device=cpu, seed=0)
    net = nn.Linear(8, 8)
    bare_optimiser = Adam(net.parameters(), lr=1e-6)

    def ours() -> None:
        for step in range(STEPS):
            train_step.step([batch], Progress(step, STEPS, 0))

    def bare() -> None:
        for _ in range(STEPS):
            bare_optimiser.zero_grad(set_to_none=True)
            loss: Tensor = net(batch.x).square().mean()
            torch.autograd.backward(loss)
            bare_optimiser.step()

    times = {name: t / STEPS for name, t in in_turn({"ours": ours, "bare": bare}, repeats).items()}
    added = times["ours"] - times["bare"]
    stage = f"step of a tiny network, of which {added:.2f} ms the loop's (plain: a bare loop)"
    return [row(stage, times["ours"], times["bare"], part=True)]


def _checkpoint(elements: int, repeats: int) -> dict[str, Any]:
    """Load a checkpoint with all its checks, and by torch.load, each first in a new process."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.pth")
        parts = {f"layer{i}.weight": torch.ones(elements // 256) for i in range(256)}
        io.save(path, {"state_dict": parts})
        size = path.stat().st_size / 1e6
        turns = [
            [measure_alone(load, path).milliseconds for load in (_ours, _plain)]
            for _ in range(repeats)
        ]
        now, plain = (median(column) for column in zip(*turns, strict=True))
    stage = f"loading a checkpoint of {size:.0f} MB (plain: torch.load)"
    return row(stage, now, plain, part=True)


def _ours(path: Path) -> Callable[[], object]:
    return partial(io.load, path)


def _plain(path: Path) -> Callable[[], object]:
    return partial(torch.load, path, map_location="cpu", weights_only=True)
