"""What is measured while training goes on, and said when it ends."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.modules import evaluating
from ffreid.engine.task import Images, Plan, Progress, ValidationResult, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.pose import build, sources
from ffreid.pose.data.batch import SkippedFrame
from ffreid.pose.draw import Picture
from ffreid.pose.evaluation import evaluate, picture
from ffreid.pose.inference import FrameResult, estimate
from ffreid.pose.schedules import validation_due

PICTURES = 4
"""Frames that are drawn at an evaluation, where pictures are asked for."""


def due(cfg: CfgNode, plan: Plan, done: int) -> bool:
    """Whether the authors validate after `done` steps."""
    return validation_due(done, total=plan.total, windows=cfg.TRAIN.CYCLE_DIVISOR)


def validate(
    cfg: CfgNode, world: World, source: sources.Source, train_step: TrainStep, at: Progress
) -> ValidationResult:
    """Measure the loss on test frames, over all processes."""
    terms = train_step.evaluate(_batches(cfg, world, source), at)
    if not terms:
        raise UserError(
            "no test frame can be used for validation", "check the depth images of the test frames"
        )
    net = unwrap(train_step.task.get_submodule("net"))
    return ValidationResult(
        row=terms,
        name="loss",
        value=terms["loss"],
        higher_is_better=False,
        images=lambda: pictures(cfg, source, net, world.device),
    )


def pictures(cfg: CfgNode, source: sources.Source, net: nn.Module, device: torch.device) -> Images:
    """Estimate and draw the poses of the first validation frames, by the frame's name."""
    data = build.evaluation_set(cfg, source, min(cfg.TRAIN.VALIDATE_FRAMES or PICTURES, PICTURES))
    drawn: dict[str, Picture] = {}
    for sample in (data[index] for index in range(min(len(data), PICTURES))):
        if isinstance(sample, SkippedFrame):
            continue
        batch = build.collate([sample])
        with evaluating(net):
            moved = batch.to(device, precision.dtype(cfg))
            (poses,) = estimate(moved, net, source.objects, build.voting(cfg))
        rgb = batch.inputs.rgb[0].permute(1, 2, 0).numpy().astype(np.uint8)
        frame = FrameResult(sample.gt, tuple(poses), (), rgb=rgb)
        drawn[sample.gt.name] = picture(frame, source.objects, source.meshes)
    return drawn


def _batches(cfg: CfgNode, world: World, source: sources.Source) -> Iterator[Any]:
    for batch, _ in evaluation_stream(
        build.evaluation_set(cfg, source, cfg.TRAIN.VALIDATE_FRAMES),
        build.collate_for_evaluation,
        batch=cfg.TEST.BATCH,
        workers=cfg.DATA.WORKERS,
        rank=world.rank,
        size=world.size,
    ):
        if batch is not None:
            yield batch


def numbers(cfg: CfgNode, source: sources.Source) -> tuple[str, ...]:
    """Name the numbers of an evaluation's row."""
    return ("loss", "segmentation", "keypoints", "centre", "accuracy")


def one_batch(cfg: CfgNode, world: World, source: sources.Source, train_step: TrainStep) -> object:
    """Measure the loss on the first batch of test frames."""
    return train_step.evaluate(islice(_batches(cfg, world, source), 1), Progress(0, 1, 0))


def epoch_line(means: dict[str, float], epoch: int, seconds: float, waited: float) -> None:
    """Say nothing at the end of an epoch: runs are measured in steps."""


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Estimate and score the poses of the best state, and of the best averages."""
    if not cfg.TRAIN.EVAL_POSES:
        return
    evaluate(cfg, world, folder=folder, weights=folder / "best.pth")
    if cfg.TRAIN.EMA:
        evaluate(cfg, world, folder=folder / "ema", weights=folder / "best-ema.pth")
