"""Networks, losses, data and optimisers of a configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
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
from ffreid.engine.fingerprint import Item
from ffreid.engine.modules import has_hooks
from ffreid.engine.precision import dtype, is_bf16_on_cpu
from ffreid.engine.task import Plan, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.reid import convert
from ffreid.reid.cache import pictures
from ffreid.reid.data import clips
from ffreid.reid.data.batch import collate as collate
from ffreid.reid.data.batch import collate_for_evaluation as collate_for_evaluation
from ffreid.reid.data.dataset import EvalSet, TrainSet
from ffreid.reid.data.records import Record, Source
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import ClipTraining, Evaluation, ImageTraining
from ffreid.reid.defaults import COSINE_LOSSES, is_video
from ffreid.reid.initial_weights import load_initial_weights
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model import build_network
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier
from ffreid.reid.model.compiled import CompiledResNet50
from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.model.video import VideoResNet50
from ffreid.reid.task import NetworkWithClassifier, ReidTask
from ffreid.report import log

_INPUT_OR_NETWORK = (
    "DATA.HEIGHT",
    "DATA.WIDTH",
    "DATA.DECODE",
    "AUG.SEQ_LEN",
    "AUG.SAMPLING_STRIDE",
    "MODEL.",
)
_INITIAL_WEIGHTS = ("MODEL.RESUME", "MODEL.BACKBONE")


def build_task(
    cfg: CfgNode, source: Source, device: torch.device, *, resumed: bool = False
) -> ReidTask:
    """Build networks and losses on `device`; a resumed run does not load MODEL.BACKBONE."""
    torch.manual_seed(cfg.SEED)
    backbone = build_network(cfg)
    features, loss = cfg.MODEL.FEATURE_DIM, cfg.LOSS
    head = NormalizedClassifier if loss.CLA_LOSS in COSINE_LOSSES else Classifier
    net: nn.Module = NetworkWithClassifier(backbone, head(features, len(source.identities)))
    clothes = memory = None
    if loss.CAL == "cal":
        clothes = NormalizedClassifier(features, len(source.clothes))
    if loss.CAL == "calwithmemory":
        memory = ClothesMemory(
            len(source.clothes),
            features,
            scale=loss.CLA_S,
            epsilon=loss.EPSILON,
            momentum=loss.MOMENTUM,
            update=loss.MEMORY_UPDATE,
        )
    heads = {"clothes": clothes, "memory": memory}
    load_initial_weights(net, heads, "random" if resumed else cfg.MODEL.BACKBONE)
    groups = max(1, cfg.TRAIN.BN_GROUPS // group.size())
    if cfg.TRAIN.BATCH_NORM == "groups" and groups > 1:
        batchnorm.group(net, groups)
    if cfg.TRAIN.BATCH_NORM == "sync" and group.size() > 1:
        net = batchnorm.synchronise(net, device)
    assert isinstance(net, NetworkWithClassifier)
    task = ReidTask(
        net,
        cfg,
        clothes=clothes,
        memory=memory,
        clothes_of_identity=torch.from_numpy(source.clothes_of_identity()),
    )
    return task.to(device, dtype(cfg))


def build_optimisers(cfg: CfgNode, task: ReidTask) -> dict[str, Optimizer]:
    """One optimiser of the same kind for each optimised attribute."""
    o = cfg.TRAIN.OPTIMIZER
    return {
        name: optim.make(
            o.NAME,
            task.get_submodule(name).parameters(),
            lr=o.LR,
            weight_decay=o.WEIGHT_DECAY,
            fused=cfg.TRAIN.FUSED or is_bf16_on_cpu(cfg, task.clothes_of_identity.device),
        )
        for name in task.optimized
    }


def original_entries(
    train_step: TrainStep, epoch: int, measured: Mapping[str, float]
) -> dict[str, Any]:
    """Entries of Simple-CCReID's checkpoints; tensors are shared, `epoch` is the last, from 0."""
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


def for_evaluation(cfg: CfgNode, net: nn.Module) -> nn.Module:
    """Return what evaluates a network with TEST; later changes to it may have no effect.

    On CPUs, and in bf16, that is `CompiledResNet50`. The network itself remains in double
    precision, if it is another one, and in fp32 if a hook waits for its layers.
    """
    half, dtypes = cfg.TEST.PRECISION == "bf16", {p.dtype for p in net.parameters()}
    if cfg.TEST.ENGINE == "openvino":
        from ffreid.reid.model.openvino import OpenVinoNetwork

        return OpenVinoNetwork(net, cfg.TEST.PRECISION)
    if not isinstance(net, ImageResNet50 | VideoResNet50) or dtypes != {torch.float32}:
        if half:
            raise UserError(
                f"TEST.PRECISION bf16 needs a ResNet-50 in float32, not {type(net).__name__} in "
                f"{', '.join(map(str, dtypes))}",
                "use TEST.PRECISION fp32, or TRAIN.PRECISION fp32",
            )
        return net
    if not half and (has_hooks(net) or next(net.parameters()).device.type != "cpu"):
        return net
    return CompiledResNet50(net, torch.bfloat16 if half else torch.float32)


def computed(cfg: CfgNode) -> str:
    """How features are computed, where it is not by torch in float32."""
    ways = ["by openvino"] * (cfg.TEST.ENGINE == "openvino")
    ways += ["in bfloat16"] * (cfg.TEST.PRECISION == "bf16")
    return " ".join(ways)


def load_network(
    path: Path, cfg: CfgNode, device: torch.device, *, content: Any = None
) -> tuple[nn.Module, Any]:
    """Build the network in evaluation mode from a checkpoint of any origin; also return that.

    `content` is that of the file, if it has been read already.
    """
    state, line = convert.convert_any(io.load(path) if content is None else content, path)
    if line and group.rank() == 0:
        log(line)
    weights: dict[str, Tensor] | None = state.get("model_state_dict")
    if weights is None:
        raise UserError(
            f"{path} contains no re-identification network", "use best.pth or last.pth of a run"
        )
    net = build_network(cfg)
    try:
        io.load_weights(net, weights, str(path))
    except UserError as error:
        changed = [
            f"{key} {then}"
            for key, then, _ in differing(cfg, state.get("config", "{}"))
            if key.startswith("MODEL.") and key not in (*_INITIAL_WEIGHTS, "MODEL.FEATURE_DIM")
        ]
        hint = (
            f"the network was trained with other settings: add {' '.join(changed)}"
            if changed
            else error.hint
        )
        raise UserError(error.message, hint) from error
    return net.to(device, dtype(cfg)).eval(), state


def changed_settings(cfg: CfgNode, state: Mapping[str, Any]) -> list[str]:
    """Lines on settings of input or network that differ from those of a checkpoint."""
    return [
        f"trained with {key} {then}, evaluated with {now}"
        for key, then, now in differing(cfg, state.get("config", "{}"))
        if key.startswith(_INPUT_OR_NETWORK) and key not in _INITIAL_WEIGHTS
    ]


FREE_TO_CHANGE: tuple[str, ...] = (
    "RECIPE",
    "GPU",
    "EVAL_MODE",
    "DATA.NUM_WORKERS",
    "DATA.TEST_BATCH",
    "DATA.SKIP_BROKEN",
    "DATA.CACHE",
    "MODEL.RESUME",
    "TRAIN.ACTIVATION_CHECKPOINTING",
)
"""Settings that may differ in a resumed run: they do not change what is trained."""


def data_items(cfg: CfgNode, source: Source) -> list[Item]:
    """Names, files and labels of all images or tracklets."""
    splits = [source.test, *([source.val] if source.val else [])]
    records = [source.train, *(part for split in splits for part in (split.query, split.gallery))]
    return [
        Item(
            record.frames[0],
            [source.folder / frame for frame in record.frames],
            (record.identity, record.clothes, record.camera),
        )
        for record in chain(*records)
    ]


def training_set(cfg: CfgNode, source: Source) -> TrainSet:
    """The training samples; `len` is their number per epoch."""
    data, aug = cfg.DATA, cfg.AUG
    records = source.train
    prepare: ImageTraining | ClipTraining
    if source.video:
        if data.DENSE_SAMPLING:
            records = clips.dense_chunks(records, data.SAMPLING_STEP)
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
        pictures(cfg, source),
        sampler,
        prepare=prepare,
        seed=cfg.SEED,
        skip_broken=data.SKIP_BROKEN,
    )


def evaluation_set(cfg: CfgNode, records: Sequence[Record], source: Source) -> EvalSet:
    """Images, or clips (see `clips.clips_of_tracklets`), for feature extraction."""
    prepare = Evaluation(cfg.DATA.HEIGHT, cfg.DATA.WIDTH, is_video(cfg))
    skip = cfg.DATA.SKIP_BROKEN
    return EvalSet(records, pictures(cfg, source), prepare=prepare, skip_broken=skip)


def plan(cfg: CfgNode, data: TrainSet) -> Plan:
    """Length of training."""
    epoch = data.sampler.steps_per_epoch
    return Plan(
        batch=cfg.DATA.TRAIN_BATCH * cfg.TRAIN.BN_GROUPS,
        steps_per_epoch=epoch,
        total=cfg.TRAIN.STEPS or cfg.TRAIN.MAX_EPOCH * epoch,
        workers=cfg.DATA.NUM_WORKERS,
        batch_norm_group=cfg.DATA.TRAIN_BATCH if cfg.TRAIN.BATCH_NORM == "groups" else 1,
    )


def rates(cfg: CfgNode, plan: Plan) -> dict[str, Callable[[int], float]]:
    """Learning rates by step; the clothes classifier's is constant, as in Simple-CCReID."""
    o, schedule = cfg.TRAIN.OPTIMIZER, cfg.TRAIN.LR_SCHEDULER

    def net(step: int) -> float:
        """Learning rate of torch's MultiStepLR."""
        rate: float = o.LR
        for milestone in schedule.STEPSIZE:
            if step // plan.steps_per_epoch >= milestone:
                rate *= schedule.DECAY_RATE  # one by one: rounding as in torch
        return rate

    return {"net": net, "clothes": lambda step: float(o.LR)}
