"""What is measured while training goes on, and said when it ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid.engine.dist import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.loop import Plan, Progress, Trainer, Validation
from ffreid.engine.schedules import validation_due
from ffreid.pose import setup
from ffreid.pose.evaluation import evaluate


def due(cfg: CfgNode, plan: Plan, done: int) -> bool:
    """Whether the authors validate after `done` steps."""
    return validation_due(done, total=plan.total, windows=cfg.TRAIN.CYCLE_DIVISOR)


def validate(
    cfg: CfgNode, world: World, source: setup.Source, trainer: Trainer, at: Progress
) -> Validation:
    """Measure the loss on test frames, over all processes."""
    terms = trainer.evaluate(_batches(cfg, world, source), at)
    return Validation(row=terms, name="loss", value=terms["loss"], larger=False)


def _batches(cfg: CfgNode, world: World, source: setup.Source) -> Iterator[Any]:
    for batch, _ in evaluation_stream(
        setup.evaluation_set(cfg, source, cfg.TRAIN.VALIDATE_FRAMES),
        setup.collate_for_evaluation,
        batch=cfg.TEST.BATCH,
        workers=cfg.DATA.WORKERS,
        rank=world.rank,
        size=world.size,
    ):
        if batch is not None:
            yield batch


def epoch_line(means: dict[str, float], epoch: int, seconds: float, waited: float) -> None:
    """Say nothing at the end of an epoch: runs are measured in steps."""


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Estimate and score the poses of the best state."""
    if cfg.TRAIN.EVAL_POSES:
        evaluate(cfg, world, folder=folder, weights=folder / "best.pth")
