"""Training in other precisions and memory formats, for tests and measurements on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from yacs.config import CfgNode

from ffreid.engine import defaults, modules, optim, precision
from ffreid.engine.task import Progress, Task
from ffreid.engine.train_step import StepResult, TrainStep

RATE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of `TrainStep` and torch, and the relative difference of two steps' losses."""

    autocast: torch.dtype | None = None
    tf32: bool = False
    backend: str = ""
    channels_last: bool = False
    fused: bool = False
    deterministic: bool = False
    near: float = 2e-2


HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
VARIANTS = {
    "fp32": Variant(),
    "TF32": Variant(tf32=True, near=0.1),
    **{name: Variant(autocast=dtype, near=0.2) for name, dtype in HALVES.items()},
    "compile": Variant(backend="inductor"),
    "channels_last": Variant(channels_last=True),
    "fused": Variant(fused=True),
    "deterministic": Variant(deterministic=True),
    **{
        f"{name} with all": Variant(
            autocast=dtype, backend="inductor", channels_last=True, fused=True, near=0.2
        )
        for name, dtype in HALVES.items()
    },
}


@contextmanager
def switched(variant: Variant) -> Iterator[None]:
    """Set torch's switches within the block."""
    cfg = CfgNode({"TRAIN": CfgNode()})
    defaults.add(cfg.TRAIN)
    cfg.TRAIN.TF32, cfg.TRAIN.DETERMINISTIC = variant.tf32, variant.deterministic
    with precision.flags(cfg):
        yield


def trainer_of(task: Task, variant: Variant, device: torch.device) -> TrainStep:
    """A step that trains `task` on `device` with Adam."""
    task = task.to(device)
    if variant.channels_last:
        modules.channels_last(task)
    optimisers = {
        name: optim.make(
            "adam",
            task.get_submodule(name).parameters(),
            lr=RATE,
            weight_decay=0.0,
            fused=variant.fused,
        )
        for name in task.optimized
    }
    return TrainStep(
        task,
        optimisers,
        dict.fromkeys(optimisers, lambda step: RATE),
        device=device,
        autocast=variant.autocast,
        backend=variant.backend,
        seed=0,
    )


def train(train_step: TrainStep, batch: Any, steps: int) -> list[StepResult]:
    """Train repeatedly on the same batch."""
    return [train_step.step([batch], Progress(step, steps, 0)) for step in range(steps)]


def losses_of(task: Task, batch: Any, variant: Variant, device: torch.device) -> list[float]:
    """The losses of two steps."""
    with switched(variant):
        train_step = trainer_of(task, variant, device)
        return [step.terms["loss"] for step in train(train_step, batch, 2)]


def check_updates(train_step: TrainStep, batch: Any) -> None:
    """Train some steps: none is skipped, weights change and stay finite."""
    before = [p.detach().clone() for p in train_step.task.parameters()]
    assert all(step.skipped is None for step in train(train_step, batch, 25))
    after = list(train_step.task.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
