"""Validation during training and the evaluation at its end."""

from itertools import islice
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.distributed.group import World
from ffreid.engine.modules import evaluating
from ffreid.engine.task import Images, Plan, Progress, ValidationResult, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.pose import build, sources
from ffreid.pose.data.batch import collate_for_evaluation
from ffreid.pose.evaluation import draw_result, evaluate
from ffreid.pose.inference import evaluate_frames
from ffreid.pose.schedules import validation_due
from ffreid.report import log

IMAGES = 4
"""Frames drawn per evaluation, where images are logged."""


def due(cfg: CfgNode, plan: Plan, done: int) -> bool:
    """Whether the authors validate after `done` steps."""
    return validation_due(done, total=plan.total, windows=cfg.TRAIN.CYCLE_DIVISOR)


def validate(
    cfg: CfgNode, world: World, source: sources.Source, train_step: TrainStep, at: Progress
) -> ValidationResult:
    """Compute the loss on test frames, over all processes."""
    batches = build.evaluation_batches(cfg, world, source, cfg.TRAIN.VALIDATE_FRAMES)
    terms = train_step.evaluate((batch for batch, _ in batches if batch is not None), at)
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
        images=lambda: draw_examples(cfg, source, net, world.device),
    )


def draw_examples(
    cfg: CfgNode, source: sources.Source, net: nn.Module, device: torch.device
) -> Images:
    """Estimate and draw the poses of the first validation frames, by the frame's name.

    They are voted in VOTE.MODE fast: the exact one takes up to a minute a frame of a network that
    has learnt little.
    """
    if cfg.VOTE.MODE != "fast":
        log("note: the drawn poses are voted in VOTE.MODE fast")
    data = build.evaluation_set(cfg, source, min(cfg.TRAIN.VALIDATE_FRAMES or IMAGES, IMAGES))
    with evaluating(net):
        results = evaluate_frames(
            (collate_for_evaluation([data[index]]) for index in range(len(data))),
            net,
            source.objects,
            source.meshes,
            build.voting(cfg) | {"mode": "fast"},
            device=device,
            dtype=precision.dtype(cfg),
            keep_images=IMAGES,
        )
    return {
        result.gt.name: draw_result(result, source.objects, source.meshes)
        for result in results
        if result.rgb is not None
    }


def numbers(cfg: CfgNode, source: sources.Source) -> tuple[str, ...]:
    """Names of the numbers in an evaluation's row."""
    return ("loss", "segmentation", "keypoints", "centre", "accuracy")


def one_batch(cfg: CfgNode, world: World, source: sources.Source, train_step: TrainStep) -> object:
    """Compute the loss on the first batch of test frames."""
    batches = build.evaluation_batches(cfg, world, source, cfg.TRAIN.VALIDATE_FRAMES)
    usable = (batch for batch, _ in batches if batch is not None)
    return train_step.evaluate(islice(usable, 1), Progress(0, 1, 0))


def epoch_line(means: dict[str, float], epoch: int, seconds: float, waited: float) -> None:
    """No line at the end of an epoch: the authors log steps."""


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Estimate and score the poses of the best weights, and of the best averaged weights."""
    if not cfg.TRAIN.EVAL_POSES:
        return
    evaluate(cfg, world, folder=folder, weights=folder / "best.pth")
    if cfg.TRAIN.EMA:
        evaluate(cfg, world, folder=folder / "ema", weights=folder / "best-ema.pth")
