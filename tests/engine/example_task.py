"""A small task for tests with two parts that are trained in order, as in CAL."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from yacs.config import CfgNode

from ffreid.config import merge_pairs
from ffreid.engine import batchnorm, precision
from ffreid.engine import defaults as engine_defaults
from ffreid.engine.distributed.group import World
from ffreid.engine.fingerprint import Item
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.task import Losses, Plan, Progress, Task, TaskModules, ValidationResult
from ffreid.engine.train_step import TrainStep
from ffreid.engine.trainer import Trainer

LENGTH = 24
"""Samples an epoch."""
WORLD = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Points:
    """Toy inputs (B, 3) and targets (B, 2)."""

    x: Tensor
    y: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Points":
        return replace(self, x=self.x.to(device, dtype), y=self.y.to(device, dtype))


class Samples:
    """Sample (epoch, position) is generated from both; those in `bad` are not finite."""

    def __init__(self, bad: tuple[str, ...] = ()) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return LENGTH

    def summary(self) -> str:
        return f"{LENGTH} points"

    def __getitem__(self, key: Any) -> Points:
        epoch, position = key if isinstance(key, tuple) else (99, key)
        generator = torch.Generator().manual_seed(1000 * epoch + position)
        x = torch.randn(1, 3, generator=generator)
        y = torch.stack([x.sum(1), x[:, 0] * x[:, 1]], 1)
        name = f"{epoch}/{position}"
        return Points(x * (math.nan if name in self.bad else 1), y, (name,))


def collate(samples: list[Points]) -> Points:
    return Points(
        torch.cat([sample.x for sample in samples]),
        torch.cat([sample.y for sample in samples]),
        tuple(name for sample in samples for name in sample.names),
    )


class Fitter(Task):
    """The net fits the targets; the head, stepped first, fits the rest."""

    def __init__(self, dropout: float, groups: int, single: bool) -> None:
        super().__init__()
        self.optimized = ("net",) if single else ("head", "net")
        self.net = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2)
        )
        self.head = nn.Linear(3, 2)
        batchnorm.group(self.net, groups)
        self.groups = groups

    def losses(self, batch: Points, at: Progress) -> Iterator[tuple[str, Losses]]:
        batchnorm.regroup(self.net, max(1, len(batch) * self.groups // 12))
        output = self.net(batch.x)
        if "head" in self.optimized:
            left = (batch.y - output).detach()
            yield "head", Losses(train={"left": (left - self.head(batch.x)).square().mean()})
        fit = (batch.y - output).square().mean()
        yield "net", Losses(train={"fit": fit}, log={"largest": output.abs().mean()})


def defaults(folder: Path, *pairs: str) -> CfgNode:
    """Settings: 3 batch-norm groups of 4 samples a step, 2 steps an epoch."""
    cfg = CfgNode()
    cfg.TASK, cfg.DATASET, cfg.TAG, cfg.OUTPUT, cfg.SEED = "example", "points", "a", str(folder), 3
    cfg.DATA = CfgNode({"ROOT": "", "WORKERS": 0, "BAD": []})
    cfg.MODEL = CfgNode({"BACKBONE": "", "DROPOUT": 0.0, "SINGLE": False})
    cfg.TRAIN = CfgNode({"STEPS": 6, "BATCH": 12, "GROUPS": 3})
    cfg.TEST = CfgNode({"EVERY": 4})
    engine_defaults.add(cfg.TRAIN)
    cfg.TRAIN.LOG_EVERY = 1
    merge_pairs(cfg, pairs)
    engine_defaults.check(cfg)
    cfg.freeze()
    return cfg


SOURCES: Any = SimpleNamespace(
    open_source=lambda cfg: Samples(tuple(cfg.DATA.BAD)),
    check_source=lambda cfg, source: None,
    notes=lambda cfg, source: [],
    class_names=lambda source: ["sum", "product"],
    checkpoint_entries=lambda cfg, source: {},
    check_entries=lambda source, state, origin: None,
)


def plan(cfg: CfgNode, data: Samples) -> Plan:
    batch = cfg.TRAIN.BATCH
    return Plan(
        batch=batch,
        steps_per_epoch=len(data) // batch,
        total=cfg.TRAIN.STEPS,
        workers=cfg.DATA.WORKERS,
        batch_norm_group=batch // cfg.TRAIN.GROUPS,
    )


def build_task(cfg: CfgNode, _: Samples, device: torch.device, *, resumed: bool = False) -> Task:
    torch.manual_seed(cfg.SEED + resumed)  # values that a checkpoint lacks would differ
    task = Fitter(cfg.MODEL.DROPOUT, cfg.TRAIN.GROUPS, cfg.MODEL.SINGLE)
    return task.to(device, precision.dtype(cfg))


BUILD: Any = SimpleNamespace(
    FREE_TO_CHANGE=("DATA.WORKERS", "DATA.BAD"),
    training_set=lambda cfg, source: source,
    collate=collate,
    data_items=lambda cfg, source: [
        Item(path.name, [path]) for path in sorted(Path(cfg.OUTPUT).glob("*.png"))
    ],
    plan=plan,
    build_task=build_task,
    build_optimisers=lambda cfg, task: {
        name: Adam(task.get_submodule(name).parameters()) for name in task.optimized
    },
    rates=lambda cfg, plan: {"net": lambda step: 0.02 / (1 + step), "head": lambda step: 0.01},
    original_entries=lambda train_step, epoch, measured: {},
)


def validate(
    cfg: CfgNode, world: World, source: Samples, train_step: TrainStep, at: Progress
) -> ValidationResult:
    batches = evaluation_stream(
        Samples(), collate, batch=5, workers=0, rank=world.rank, size=world.size
    )
    row = train_step.evaluate(batches, at)
    return ValidationResult(
        row=row, name="loss", value=row["loss"], higher_is_better=False, results={}
    )


VALIDATION: Any = SimpleNamespace(
    due=lambda cfg, plan, done: done % cfg.TEST.EVERY == 0,
    validate=validate,
    numbers=lambda cfg, source: ("loss", "largest", "fit", "left"),
    one_batch=lambda cfg, world, source, train_step: train_step.evaluate(
        iter([source[0]]), Progress(0, 1, 0)
    ),
    epoch_line=lambda means, epoch, *_: f"epoch {epoch + 1}: {means['fit']!r}",
)
MODULES = TaskModules(SOURCES, BUILD, VALIDATION)


def trainer(
    cfg: CfgNode,
    folder: Path,
    state: Any = None,
    world: World = WORLD,
    *,
    data_changed: bool = False,
) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    origin = str(folder / "last.pth")
    return Trainer(
        cfg, world, MODULES, folder, state=state, origin=origin, data_changed=data_changed
    )
