"""The same training in other precisions and layouts, for tests and figures on a GPU."""

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
    """How a training computes, and how near its losses stay to single precision's.

    Attributes:
        half: what autocast computes in; None is off.
        tf32: whether products of float32 are rounded to TF32.
        backend: of torch.compile; "" is off.
        channels_last: whether channels lie innermost.
        fused: whether the optimisers' kernels are fused.
        deterministic: whether only deterministic operations are allowed.
        near: relative difference of the losses of two steps.
    """

    half: torch.dtype | None = None
    tf32: bool = False
    backend: str = ""
    channels_last: bool = False
    fused: bool = False
    deterministic: bool = False
    near: float = 2e-2


HALF = 0.2
VARIANTS = {
    "fp32": Variant(),
    "TF32": Variant(tf32=True, near=0.1),
    "fp16": Variant(half=torch.float16, near=HALF),
    "bf16": Variant(half=torch.bfloat16, near=HALF),
    "compile": Variant(backend="inductor"),
    "channels_last": Variant(channels_last=True),
    "fused": Variant(fused=True),
    "deterministic": Variant(deterministic=True),
    "fp16 with all": Variant(
        half=torch.float16, backend="inductor", channels_last=True, fused=True, near=HALF
    ),
    "bf16 with all": Variant(
        half=torch.bfloat16, backend="inductor", channels_last=True, fused=True, near=HALF
    ),
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
    """Make what trains `task`, which is brought to `device`."""
    task = task.to(device)
    if variant.channels_last:
        modules.channels_last(task)
    made = {
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
        made,
        dict.fromkeys(made, lambda step: RATE),
        device=device,
        autocast=variant.half,
        backend=variant.backend,
        seed=0,
    )


def train(train_step: TrainStep, batch: Any, steps: int) -> list[StepResult]:
    """Train on the same batch over and over."""
    return [train_step.step([batch], Progress(step, steps, 0)) for step in range(steps)]


def losses_of(task: Task, batch: Any, variant: Variant, device: torch.device) -> list[float]:
    """The losses of two steps."""
    with switched(variant):
        train_step = trainer_of(task, variant, device)
        return [step.terms["loss"] for step in train(train_step, batch, 2)]
