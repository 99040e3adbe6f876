"""A small task for tests: two parts trained one after the other, as those of CAL are."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from yacs.config import CfgNode

from ffreid.config import merge_pairs
from ffreid.engine import batchnorm, precision
from ffreid.engine import defaults as engine_defaults
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.task import Losses, Plan, Progress, Task, TaskModules, ValidationResult
from ffreid.engine.train_step import TrainStep
from ffreid.engine.trainer import Trainer

LENGTH = 24
"""Samples an epoch."""
ALONE = World(0, 1, torch.device("cpu"))


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
    """Sample (epoch, position) is drawn from both; those named in `bad` are not finite."""

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
)


class Build:
    """Like ``pose/build.py``."""

    FREE_TO_CHANGE: tuple[str, ...] = ("DATA.WORKERS", "DATA.BAD")
    collate = staticmethod(collate)

    def training_set(self, cfg: CfgNode, source: Samples) -> Samples:
        return source

    def plan(self, cfg: CfgNode, data: Samples) -> Plan:
        batch = cfg.TRAIN.BATCH
        return Plan(
            batch=batch,
            steps_per_epoch=len(data) // batch,
            total=cfg.TRAIN.STEPS,
            workers=cfg.DATA.WORKERS,
            batch_norm_group=batch // cfg.TRAIN.GROUPS,
        )

    def build_task(
        self, cfg: CfgNode, source: Samples, device: torch.device, *, resumed: bool = False
    ) -> Task:
        torch.manual_seed(cfg.SEED + resumed)  # values that a checkpoint lacks would differ
        task = Fitter(cfg.MODEL.DROPOUT, cfg.TRAIN.GROUPS, cfg.MODEL.SINGLE)
        return task.to(device, precision.dtype(cfg))

    def build_optimisers(self, cfg: CfgNode, task: Any) -> dict[str, Optimizer]:
        return {name: Adam(task.get_submodule(name).parameters()) for name in task.optimized}

    def rates(self, cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
        return {"net": lambda step: 0.02 / (1 + step), "head": lambda step: 0.01}

    def original_entries(
        self, train_step: Any, epoch: int, measured: Mapping[str, float]
    ) -> dict[str, Any]:
        return {}


class Validation:
    """Like ``pose/validation.py``."""

    def due(self, cfg: CfgNode, plan: Plan, done: int) -> bool:
        return bool(done % cfg.TEST.EVERY == 0)

    def validate(
        self, cfg: CfgNode, world: World, source: Samples, train_step: TrainStep, at: Progress
    ) -> ValidationResult:
        batches = evaluation_stream(
            Samples(), collate, batch=5, workers=0, rank=world.rank, size=world.size
        )
        row = train_step.evaluate(batches, at)
        return ValidationResult(
            row=row, name="loss", value=row["loss"], higher_is_better=False, results={}
        )

    def numbers(self, cfg: CfgNode, source: Samples) -> tuple[str, ...]:
        return ("loss", "largest", "fit", "left")

    def one_batch(self, cfg: CfgNode, world: World, source: Samples, train_step: TrainStep) -> Any:
        return train_step.evaluate(iter([source[0]]), Progress(0, 1, 0))

    def epoch_line(
        self, means: dict[str, float], epoch: int, seconds: float, waited: float
    ) -> str | None:
        return f"epoch {epoch + 1}: {means['fit']!r}"

    def finish(self, cfg: CfgNode, world: World, folder: Path) -> None:
        raise NotImplementedError


MODULES = TaskModules(SOURCES, Build(), Validation())


def trainer(cfg: CfgNode, folder: Path, state: Any = None, world: World = ALONE) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(cfg, world, MODULES, folder, state=state, origin=str(folder / "last.pth"))
