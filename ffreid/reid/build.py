"""Networks, losses and optimisers as the configuration names them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ffreid.config import differing
from ffreid.engine import batchnorm, optim
from ffreid.engine.checkpoints import io
from ffreid.engine.distributed import group
from ffreid.engine.precision import dtype
from ffreid.engine.task import Plan, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.reid import convert
from ffreid.reid.data import clips
from ffreid.reid.data.batch import collate as collate
from ffreid.reid.data.batch import collate_for_evaluation as collate_for_evaluation
from ffreid.reid.data.dataset import EvalSet, TrainSet
from ffreid.reid.data.records import Record, Source
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import (
    ClipEvaluation,
    ClipTraining,
    ImageEvaluation,
    ImageTraining,
)
from ffreid.reid.defaults import COSINES, VIDEO_LAYOUTS
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model.backbone import load_backbone
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.networks import build_network
from ffreid.reid.task import NetworkWithClassifier, ReidTask, Settings
from ffreid.report import log

_SHAPING = ("DATA.HEIGHT", "DATA.WIDTH", "AUG.SEQ_LEN", "AUG.SAMPLING_STRIDE", "MODEL.")
_ORIGIN = ("MODEL.RESUME", "MODEL.BACKBONE")
_NO_SHAPE = ("MODEL.RESUME", "MODEL.BACKBONE", "MODEL.FEATURE_DIM")


def build_task(
    cfg: CfgNode, source: Source, device: torch.device, *, resumed: bool = False
) -> ReidTask:
    """Make networks and losses on `device`, the backbone with the weights that are asked for.

    A resumed run replaces all weights: it needs none of ImageNet's.
    """
    torch.manual_seed(cfg.SEED)
    net = build_network(cfg)
    load_backbone(net, "random" if resumed else cfg.MODEL.BACKBONE)
    features, loss = cfg.MODEL.FEATURE_DIM, cfg.LOSS
    head = NormalizedClassifier if loss.CLA_LOSS in COSINES else Classifier
    whole: nn.Module = NetworkWithClassifier(net, head(features, len(source.identities)))
    groups = max(1, cfg.TRAIN.BN_GROUPS // group.size())
    if cfg.TRAIN.BATCH_NORM == "groups" and groups > 1:
        batchnorm.group(whole, groups)
    if cfg.TRAIN.BATCH_NORM == "sync" and group.size() > 1:
        whole = batchnorm.synchronise(whole, device)
    assert isinstance(whole, NetworkWithClassifier)
    clothes = len(source.clothes)
    task = ReidTask(
        whole,
        clothes=NormalizedClassifier(features, clothes) if loss.CAL == "cal" else None,
        memory=_memory(cfg, clothes) if loss.CAL == "calwithmemory" else None,
        clothes_of_identity=torch.from_numpy(source.clothes_of_identity()),
        settings=settings(cfg),
    )
    return task.to(device, dtype(cfg))


def _memory(cfg: CfgNode, clothes: int) -> ClothesMemory:
    loss = cfg.LOSS
    return ClothesMemory(
        clothes,
        cfg.MODEL.FEATURE_DIM,
        scale=loss.CLA_S,
        epsilon=loss.EPSILON,
        momentum=loss.MOMENTUM,
        update=loss.MEMORY_UPDATE,
    )


def settings(cfg: CfgNode) -> Settings:
    """The losses' settings."""
    loss, train = cfg.LOSS, cfg.TRAIN
    return Settings(
        identity=loss.CLA_LOSS,
        clothes=loss.CLOTHES_CLA_LOSS,
        pair=loss.PAIR_LOSS,
        pair_weight=loss.PAIR_LOSS_WEIGHT,
        pair_gradient=loss.PAIR_GRADIENT,
        scale=loss.CLA_S,
        margin=loss.CLA_M,
        pair_scale=loss.PAIR_S,
        pair_margin=loss.PAIR_M,
        epsilon=loss.EPSILON,
        clothes_from=train.START_EPOCH_CC,
        adversarial_from=train.START_EPOCH_ADV,
        group=cfg.DATA.TRAIN_BATCH,
    )


def build_optimisers(cfg: CfgNode, task: ReidTask) -> dict[str, Optimizer]:
    """One optimiser of the same kind for each trained part."""
    o = cfg.TRAIN.OPTIMIZER
    return {
        name: optim.make(
            o.NAME,
            task.get_submodule(name).parameters(),
            lr=o.LR,
            weight_decay=o.WEIGHT_DECAY,
            fused=cfg.TRAIN.FUSED,
        )
        for name in task.optimized
    }


def original_entries(
    train_step: TrainStep, epoch: int, measured: Mapping[str, float]
) -> dict[str, Any]:
    """What the original's checkpoints hold, under its names; tensors are shared with our own.

    Args:
        trainer: what trains.
        epoch: the last one trained in, from 0.
        measured: ``rank1`` of the last evaluation, a share; before the first there is none.
    """
    task = train_step.task
    assert isinstance(task, ReidTask)
    net = unwrap(task.net)
    head = task.memory if task.clothes is None else unwrap(task.clothes)
    entries = {
        "model_state_dict": net.get_submodule("model").state_dict(),
        "classifier_state_dict": net.get_submodule("classifier").state_dict(),
        "clothes_classifier_state_dict": {} if head is None else head.state_dict(),
    }
    return entries | {"rank1": measured.get("rank1", math.nan), "epoch": epoch}


def load_network(path: Path, cfg: CfgNode, device: torch.device) -> tuple[nn.Module, Any]:
    """Make the network and load anyone's checkpoint, whatever classes trained it.

    Returns:
        The network in evaluation mode, and the checkpoint.

    Raises:
        UserError: the file is unreadable, or another network's.
    """
    state, line = convert.convert_any(io.load(path), path)
    if line and group.rank() == 0:
        log(line)
    weights: dict[str, Tensor] | None = state.get("model_state_dict")
    if weights is None:
        raise UserError(
            f"{path} holds no re-identification network", "give a best.pth or last.pth of a run"
        )
    net = build_network(cfg)
    try:
        io.load_weights(net, weights, str(path))
    except UserError as error:
        raise UserError(error.message, _advice(cfg, state) or error.hint) from error
    return net.to(device, dtype(cfg)).eval(), state


def changed_settings(cfg: CfgNode, state: Mapping[str, Any]) -> list[str]:
    """Say in which settings, that change what a network sees or is, its checkpoint differs."""
    return [
        f"trained with {key} {then}, evaluated with {now}"
        for key, then, now in differing(cfg, state.get("config", "{}"))
        if key.startswith(_SHAPING) and key not in _ORIGIN
    ]


def _advice(cfg: CfgNode, state: Mapping[str, Any]) -> str:
    """Name the settings by which the checkpoint's network is another."""
    told = [
        f"{key} {then}"
        for key, then, _ in differing(cfg, state.get("config", "{}"))
        if key.startswith("MODEL.") and key not in _NO_SHAPE
    ]
    return f"it is of another network: add {' '.join(told)}" if told else ""


def stepped(epoch: int, *, start: float, milestones: Sequence[int], decay: float) -> float:
    """Rate that is multiplied by `decay` at each milestone (torch's MultiStepLR).

    Args:
        epoch: from 0.
        start: rate at epoch 0.
        milestones: epochs from which the rate is lower.
        decay: factor.
    """
    rate = start
    for _ in range(sum(milestone <= epoch for milestone in milestones)):
        rate *= decay  # one after the other, as torch rounds
    return rate


FREE_TO_CHANGE: tuple[str, ...] = (
    "RECIPE",
    "GPU",
    "EVAL_MODE",
    "DATA.NUM_WORKERS",
    "DATA.TEST_BATCH",
    "DATA.SKIP_BROKEN",
    "MODEL.RESUME",
    "TRAIN.ACTIVATION_CHECKPOINTING",
)
"""Settings that a resumed run may have otherwise: they don't change what is trained."""


def training_set(cfg: CfgNode, source: Source) -> TrainSet:
    """The samples to train on; `len` is the samples an epoch."""
    data, aug = cfg.DATA, cfg.AUG
    records = source.train
    prepare: ImageTraining | ClipTraining
    if source.video:
        records = (
            clips.dense_chunks(records, data.SAMPLING_STEP) if data.DENSE_SAMPLING else records
        )
        prepare = ClipTraining(
            data.HEIGHT,
            data.WIDTH,
            erase=aug.RE_PROB,
            mode=aug.TEMPORAL_SAMPLING_MODE,
            length=aug.SEQ_LEN,
            stride=aug.SAMPLING_STRIDE,
        )
    else:
        prepare = ImageTraining(
            data.HEIGHT, data.WIDTH, crop=aug.RC_PROB, flip=aug.RF_PROB, erase=aug.RE_PROB
        )
    sampler = IdentitySampler(
        [record.identity for record in records],
        instances=data.NUM_INSTANCES,
        batch=data.TRAIN_BATCH,
        groups=cfg.TRAIN.BN_GROUPS,
        seed=cfg.SEED,
    )
    return TrainSet(
        records,
        source.folder,
        sampler,
        prepare=prepare,
        seed=cfg.SEED,
        skip_broken=data.SKIP_BROKEN,
    )


def evaluation_set(cfg: CfgNode, records: Sequence[Record], folder: Path) -> EvalSet:
    """Pictures, or clips (see `clips.clips_of_tracklets`), to take features of."""
    video = cfg.DATA.LAYOUT in VIDEO_LAYOUTS
    make = ClipEvaluation if video else ImageEvaluation
    return EvalSet(
        records,
        folder,
        prepare=make(cfg.DATA.HEIGHT, cfg.DATA.WIDTH),
        skip_broken=cfg.DATA.SKIP_BROKEN,
    )


def plan(cfg: CfgNode, data: TrainSet) -> Plan:
    """How long training is."""
    epoch = data.sampler.steps_per_epoch
    return Plan(
        batch=cfg.DATA.TRAIN_BATCH * cfg.TRAIN.BN_GROUPS,
        steps_per_epoch=epoch,
        total=cfg.TRAIN.STEPS or cfg.TRAIN.MAX_EPOCH * epoch,
        workers=cfg.DATA.NUM_WORKERS,
        batch_norm_group=cfg.DATA.TRAIN_BATCH if cfg.TRAIN.BATCH_NORM == "groups" else 1,
    )


def rates(cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
    """Learning rates as functions of the step; the clothes classifier's stays, as the original."""
    o, schedule = cfg.TRAIN.OPTIMIZER, cfg.TRAIN.LR_SCHEDULER

    def net(step: int) -> float:
        return stepped(
            step // plan.steps_per_epoch,
            start=o.LR,
            milestones=schedule.STEPSIZE,
            decay=schedule.DECAY_RATE,
        )

    return {"net": net, "clothes": lambda step: float(o.LR)}
