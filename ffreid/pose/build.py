"""From the configuration to datasets, network, optimiser and voting."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from ffreid.config import differing
from ffreid.engine import batchnorm, optim
from ffreid.engine.checkpoints import io
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.fingerprint import Item
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.modules import has_hooks
from ffreid.engine.precision import dtype, is_bf16_on_cpu
from ffreid.engine.task import Plan, Task
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.pose import cache, convert
from ffreid.pose.data.batch import Inputs, PoseBatch, SkippedFrame, collate_for_evaluation
from ffreid.pose.data.batch import collate as collate
from ffreid.pose.data.dataset import EvalSet, TrainSet
from ffreid.pose.initial_weights import load_initial_weights
from ffreid.pose.model.compiled import CompiledFFB6D
from ffreid.pose.model.ffb6d import FFB6D, Outputs, set_point_momentum
from ffreid.pose.objects import ObjectModels
from ffreid.pose.schedules import cosine, triangular
from ffreid.pose.sources import Source
from ffreid.pose.stored_objects import check_same, unpack
from ffreid.pose.task import PoseTask
from ffreid.report import log

FREE_TO_CHANGE: tuple[str, ...] = ("DATA.WORKERS", "DATA.CACHE", "TRAIN.EVAL_POSES", "VOTE.")
"""Settings that a resumed run may change: they do not affect training."""


def training_set(cfg: CfgNode, source: Source) -> TrainSet:
    """The training samples; `len` is the samples per epoch."""
    names = cfg.DATA.FRAMES or source.reader.train_names
    return TrainSet(
        source.reader,
        source.objects,
        points=cfg.MODEL.POINTS,
        length=cfg.TRAIN.LENGTH or max(len(names), cfg.TRAIN.BATCH),
        seed=cfg.SEED,
        downscale=cfg.DATA.SHRINK,
        cache=cache.find(cfg, source),
        on_device=cfg.DATA.PREPARE == "device",
        augment=cfg.DATA.AUGMENT,
        fixed=cfg.DATA.FRAMES,
    )


def data_items(cfg: CfgNode, source: Source) -> list[Item]:
    """Names and files of the training and test frames."""
    names = cfg.DATA.FRAMES or [*source.reader.train_names, *source.reader.test_names]
    return [Item(name, source.reader.files(name)) for name in names]


def evaluation_set(cfg: CfgNode, source: Source, limit: int) -> EvalSet:
    """The test frames (the first `limit`, 0 is all), or DATA.FRAMES."""
    names = cfg.DATA.FRAMES or source.reader.test_names
    return EvalSet(
        source.reader,
        source.objects,
        names=names[:limit] if limit else names,
        points=cfg.MODEL.POINTS,
        seed=cfg.SEED,
        downscale=cfg.DATA.SHRINK,
        cache=cache.find(cfg, source),
        on_device=cfg.DATA.PREPARE == "device",
    )


def evaluation_batches(
    cfg: CfgNode, world: World, source: Source, limit: int
) -> Iterator[tuple[PoseBatch | None, list[SkippedFrame]]]:
    """This process's batches of `evaluation_set`."""
    return evaluation_stream(
        evaluation_set(cfg, source, limit),
        collate_for_evaluation,
        batch=cfg.TEST.BATCH,
        workers=cfg.DATA.WORKERS,
        rank=world.rank,
        size=world.size,
    )


def build_task(
    cfg: CfgNode, source: Source, device: torch.device, *, resumed: bool = False
) -> PoseTask:
    """Build network and losses on `device`; a resumed run needs no pretrained backbone."""
    torch.manual_seed(cfg.SEED)
    objects = source.objects
    net: nn.Module = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
    load_initial_weights(net, "random" if resumed else cfg.MODEL.BACKBONE)
    set_point_momentum(net, cfg.MODEL.POINT_MOMENTUM)
    if not cfg.MODEL.DROPOUT:
        for module in net.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
    if cfg.TRAIN.BATCH_NORM == "sync" and group.size() > 1:
        net = batchnorm.synchronise(net, device)
    task = PoseTask(
        net,
        offset_samples=cfg.LOSS.OFFSET_SAMPLES,
        frozen=cfg.TRAIN.BATCH_NORM == "frozen",
        momentum_batch=cfg.LOSS.OFFSET_SAMPLES if cfg.TRAIN.BN_MOMENTUM_SCHEDULE else None,
    )
    return task.to(device, dtype(cfg))


def load_network(
    path: Path, objects: ObjectModels, device: torch.device, *, content: Any = None
) -> tuple[nn.Module, Any]:
    """Build the network for `objects` and load any FFB6D checkpoint; also return its contents.

    `content` is that of the file, if it has been read already.
    """
    state, line = convert.convert_any(io.load(path) if content is None else content, path)
    if line and group.rank() == 0:
        log(line)
    weights = state.get("parts", {}).get("net")
    if weights is None:
        raise UserError(f"{path} contains no FFB6D weights", "use a run's best.pth or last.pth")
    if (stored := unpack(state, objects.dataset, path)) is not None:
        hint = "use the object set that it was trained with: --objects FOLDER"
        check_same(stored, objects, str(path), hint)
    names, classes = list(objects.names), state.get("classes") or []
    count = len(classes) or state.get("class_count", 0)
    if not classes and count == len(names):
        classes = names  # a converted file may have only their number
    if classes != names:
        there, here = (", ".join(c[:3]) + ", …" * (len(c) > 3) for c in (classes, names))
        listed = f" ({there})" if there else ""
        raise UserError(
            f"{path} is for {count} objects{listed}, the dataset has {len(names)} ({here})",
            "use a checkpoint of this dataset (and, for LineMOD, of this --cls)",
        )
    net = FFB6D(len(objects) + 1, objects.keypoints.shape[1])
    io.load_weights(net, weights, str(path))
    return net.to(device).eval(), state


def for_evaluation(cfg: CfgNode, net: nn.Module) -> Callable[[Inputs], Outputs]:
    """Return what evaluates a network in TEST.PRECISION; later changes to it have no effect.

    On CPUs, and in bf16, that is `CompiledFFB6D`. The network itself remains in double precision,
    if it is another one, and in fp32 if a hook waits for its layers.
    """
    half = cfg.TEST.PRECISION == "bf16"
    parameter = next(net.parameters())
    if not isinstance(net, FFB6D) or parameter.dtype != torch.float32:
        if half:
            raise UserError(
                f"TEST.PRECISION bf16 needs FFB6D in float32, not {parameter.dtype}",
                "use TEST.PRECISION fp32, or TRAIN.PRECISION fp32",
            )
        return net
    if not half and (has_hooks(net) or parameter.device.type != "cpu"):
        return net
    return CompiledFFB6D(net, deep=torch.bfloat16 if half else None)


def changed_settings(cfg: CfgNode, state: Mapping[str, Any]) -> list[str]:
    """List the settings of the network's input that differ from the checkpoint's."""
    return [
        f"trained with {key} {then}, evaluated with {now}"
        for key, then, now in differing(cfg, state.get("config", "{}"))
        if key in ("DATA.SHRINK", "DATA.INTRINSICS", "MODEL.POINTS")
    ]


def build_optimisers(cfg: CfgNode, task: Task) -> dict[str, Optimizer]:
    """The authors' Adam."""
    options = {"lr": cfg.TRAIN.LR_MIN, "weight_decay": cfg.TRAIN.WEIGHT_DECAY}
    parameters = list(task.get_submodule("net").parameters())
    fused = cfg.TRAIN.FUSED or is_bf16_on_cpu(cfg, parameters[0].device)
    return {"net": optim.make("adam", parameters, fused=fused, **options)}


def plan(cfg: CfgNode, data: TrainSet) -> Plan:
    """Length of training; as in the original only the total is rounded, not each epoch."""
    batch = cfg.TRAIN.BATCH
    return Plan(
        batch=batch,
        steps_per_epoch=max(1, len(data) // batch),
        total=cfg.TRAIN.STEPS or max(1, cfg.TRAIN.EPOCHS * len(data) // batch),
        workers=cfg.DATA.WORKERS,
    )


def rates(cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
    """Learning rates as functions of the step; the authors' scheduler lags one step behind."""
    low, high, total = cfg.TRAIN.LR_MIN, cfg.TRAIN.LR_MAX, plan.total
    half_period = total // cfg.TRAIN.CYCLE_DIVISOR

    def rate(step: int) -> float:
        if cfg.TRAIN.SCHEDULE == "cosine":
            return cosine(step, low=low, high=high, warmup=max(1, total // 10), total=total)
        return triangular(max(0, step - 1), low=low, high=high, half_period=half_period)

    return {"net": rate}


def original_entries(
    train_step: TrainStep, epoch: int, measured: Mapping[str, float]
) -> dict[str, Any]:
    """Further checkpoint entries under the original's names: none."""
    return {}


def voting(cfg: CfgNode) -> dict[str, Any]:
    """Options of `frame_poses`."""
    return {
        "bandwidth": cfg.VOTE.BANDWIDTH,
        "use_centre": cfg.VOTE.USE_CENTRE,
        "filter_clusters": cfg.VOTE.FILTER,
        "relabel": cfg.VOTE.FILTER,
        "max_votes": cfg.VOTE.MAX_POINTS or None,
        "mode": cfg.VOTE.MODE,
    }
