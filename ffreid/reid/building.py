"""Networks, losses and optimisers as the configuration names them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ffreid.config import differing
from ffreid.engine import checkpoint, dist, norm, optimisers
from ffreid.engine.precision import dtype
from ffreid.engine.task import plain
from ffreid.engine.trainer import Trainer
from ffreid.errors import UserError
from ffreid.reid import convert
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import COSINES
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model import IMAGE_NETWORKS, NETWORKS
from ffreid.reid.model.backbone import load_backbone
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.task import Identifier, ReidTask, Settings
from ffreid.report import say

_SHAPING = ("DATA.HEIGHT", "DATA.WIDTH", "AUG.SEQ_LEN", "AUG.SAMPLING_STRIDE", "MODEL.")
_ORIGIN = ("MODEL.RESUME", "MODEL.BACKBONE")
_NO_SHAPE = ("MODEL.RESUME", "MODEL.BACKBONE", "MODEL.FEATURE_DIM")


def build_network(cfg: CfgNode) -> nn.Module:
    """Make the network that the configuration names, with random weights."""
    model, recompute = cfg.MODEL, cfg.TRAIN.ACTIVATION_CHECKPOINTING
    if model.NAME in IMAGE_NETWORKS:
        return NETWORKS[model.NAME](
            pooling=model.POOLING.NAME,
            gem_power=model.POOLING.P,
            last_stride=model.RES4_STRIDE,
            recompute=recompute,
        )
    return NETWORKS[model.NAME](
        last_stride=model.RES4_STRIDE,
        temperature=model.AP3D.TEMPERATURE,
        contrastive_attention=model.AP3D.CONTRACTIVE_ATT,
        recompute=recompute,
    )


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
    whole: nn.Module = Identifier(net, head(features, len(source.identities)))
    groups = max(1, cfg.TRAIN.BN_GROUPS // dist.size())
    if cfg.TRAIN.BATCH_NORM == "groups" and groups > 1:
        norm.group(whole, groups)
    if cfg.TRAIN.BATCH_NORM == "sync" and dist.size() > 1:
        whole = norm.synchronise(whole, device)
    assert isinstance(whole, Identifier)
    outfits = len(source.outfits)
    task = ReidTask(
        whole,
        clothes=NormalizedClassifier(features, outfits) if loss.CAL == "cal" else None,
        memory=_memory(cfg, outfits) if loss.CAL == "calwithmemory" else None,
        owners=torch.from_numpy(source.owners()),
        settings=settings(cfg),
    )
    return task.to(device, dtype(cfg))


def _memory(cfg: CfgNode, outfits: int) -> ClothesMemory:
    loss = cfg.LOSS
    return ClothesMemory(
        outfits,
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
        name: optimisers.make(
            o.NAME,
            task.get_submodule(name).parameters(),
            lr=o.LR,
            weight_decay=o.WEIGHT_DECAY,
            fused=cfg.TRAIN.FUSED,
        )
        for name in task.trained
    }


def original_entries(trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> dict[str, Any]:
    """What the original's checkpoints hold, under its names; tensors are shared with our own.

    Args:
        trainer: what trains.
        epoch: the last one trained in, from 0.
        measured: ``rank1`` of the last evaluation, a share; before the first there is none.
    """
    task = trainer.task
    assert isinstance(task, ReidTask)
    net = plain(task.net)
    head = task.memory if task.clothes is None else plain(task.clothes)
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
    state, line = convert.converted(checkpoint.load(path), path)
    if line and dist.rank() == 0:
        say(line)
    weights: dict[str, Tensor] | None = state.get("model_state_dict")
    if weights is None:
        raise UserError(
            f"{path} holds no re-identification network", "give a best.pth or last.pth of a run"
        )
    net = build_network(cfg)
    try:
        checkpoint.load_weights(net, weights, str(path))
    except UserError as error:
        raise UserError(error.message, _advice(cfg, state) or error.hint) from error
    return net.to(device, dtype(cfg)).eval(), state


def told_otherwise(cfg: CfgNode, state: Mapping[str, Any]) -> list[str]:
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
