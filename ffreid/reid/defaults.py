"""All settings of the reid task with their defaults: Simple-CCReID's names and values for images.

The defaults for tracklets are in ``configs/reid/ccvid.yaml``.
"""

from typing import Any

from yacs.config import CfgNode

from ffreid.config import check_choices, check_folder, check_least, lookup
from ffreid.engine import defaults as engine_defaults
from ffreid.errors import UserError
from ffreid.reid.datasets import DATASETS

IMAGE_NETWORKS = ("resnet50",)
VIDEO_NETWORKS: dict[str, dict[str, Any]] = {
    "c2dres50": {"temporal": "c2d"},
    "i3dres50": {"temporal": "i3d"},
    "ap3dres50": {"temporal": "ap3d"},
    "nlres50": {"temporal": "c2d", "non_local": True},
    "ap3dnlres50": {"temporal": "ap3d", "non_local": True},
}
"""Networks of clips, with the arguments of `VideoResNet50`."""
NON_LOCAL = tuple(name for name, options in VIDEO_NETWORKS.items() if "non_local" in options)
NON_LOCAL_MIN_SIZE = 17
"""Least height and width of their input: they pool a map of 1/16 of it."""
COSINE_LOSSES = ("arcface", "cosface", "circle")
"""Identity losses of cosines: their classifier has unit weights and no bias."""

CHOICES = {
    "DATA.LAYOUT": tuple(DATASETS),
    "DATA.DECODE": ("fast", "pil"),
    "AUG.TEMPORAL_SAMPLING_MODE": ("stride", "tsn"),
    "MODEL.NAME": (*IMAGE_NETWORKS, *VIDEO_NETWORKS),
    "MODEL.POOLING.NAME": ("avg", "max", "gem", "maxavg"),
    "LOSS.CLA_LOSS": ("crossentropy", "crossentropylabelsmooth", *COSINE_LOSSES),
    "LOSS.CLOTHES_CLA_LOSS": ("cosface", "crossentropy"),
    "LOSS.PAIR_LOSS": ("triplet", "contrastive", "cosface", "circle"),
    "LOSS.PAIR_GRADIENT": ("own", "full"),
    "LOSS.CAL": ("cal", "calwithmemory", "none"),
    "LOSS.MEMORY_UPDATE": ("asis", "mean"),
    "TRAIN.OPTIMIZER.NAME": ("adam", "adamw", "sgd"),
    "TRAIN.BATCH_NORM": ("groups", "sync"),
    "TEST.SELECT_ON": ("test", "val"),
    "TEST.ENGINE": ("torch", "openvino"),
    "TEST.PRECISION": ("fp32", "bf16"),
}
LEAST = {
    "DATA.HEIGHT": 1,
    "DATA.WIDTH": 1,
    "DATA.TRAIN_BATCH": 2,
    "DATA.TEST_BATCH": 1,
    "DATA.NUM_INSTANCES": 1,
    "DATA.NUM_WORKERS": 0,
    "DATA.SAMPLING_STEP": 0,
    "DATA.TOY.IDENTITIES": 2,
    "DATA.TOY.TEST_IDENTITIES": 2,
    "DATA.TOY.OUTFITS": 2,
    "DATA.TOY.CAMERAS": 2,
    "DATA.TOY.PICTURES": 2,
    "DATA.TOY.FRAMES": 1,
    "DATA.TOY.SEED": 0,
    "AUG.SEQ_LEN": 1,
    "AUG.SAMPLING_STRIDE": 1,
    "MODEL.RES4_STRIDE": 1,
    "MODEL.POOLING.P": 1e-6,
    "MODEL.AP3D.TEMPERATURE": 1e-6,
    "LOSS.CLA_S": 1e-6,
    "LOSS.PAIR_S": 1e-6,
    "LOSS.PAIR_LOSS_WEIGHT": 0,
    "LOSS.EPSILON": 0,
    "TRAIN.OPTIMIZER.LR": 0,
    "TRAIN.OPTIMIZER.WEIGHT_DECAY": 0,
    "TRAIN.LR_SCHEDULER.DECAY_RATE": 0,
    "TRAIN.MAX_EPOCH": 1,
    "TRAIN.STEPS": 0,
    "TRAIN.BN_GROUPS": 1,
    "SEED": 0,
}
FRACTIONS = ("AUG.RC_PROB", "AUG.RE_PROB", "AUG.RF_PROB", "LOSS.MOMENTUM")
"""Settings between 0 and 1."""


def defaults() -> CfgNode:
    """A new, unfrozen tree of defaults."""
    c = CfgNode()
    c.TASK = "reid"
    c.DATASET = "ltcc"  # set by --dataset
    c.RECIPE = ""  # from configs/reid/recipes, merged over the dataset's YAML; --cfg replaces it
    c.SEED = 1  # of everything random
    c.OUTPUT = "runs"  # results go to OUTPUT/DATASET/TAG
    c.TAG = "default"
    c.GPU = "0"  # Simple-CCReID's, ignored; use --gpu or CUDA_VISIBLE_DEVICES
    c.EVAL_MODE = False  # Simple-CCReID's --eval: evaluate MODEL.RESUME, do not train

    c.DATA = CfgNode()
    c.DATA.LAYOUT = "ltcc"  # directory layout: a key of reid/datasets.py
    c.DATA.ROOT = ""  # the dataset's folder or the one that contains it; --root or $FFREID_DATA
    c.DATA.DATASET = "ltcc"  # Simple-CCReID's; follows --dataset
    c.DATA.HEIGHT = 384
    c.DATA.WIDTH = 192
    c.DATA.TRAIN_BATCH = 32  # images or clips per batch-norm group (Simple-CCReID: per process)
    c.DATA.TEST_BATCH = 128
    c.DATA.NUM_INSTANCES = 8  # consecutive samples of one identity
    c.DATA.NUM_WORKERS = 4  # data loading processes; 0: the main process
    c.DATA.DECODE = "fast"  # pil: decode and resize with Pillow, as Simple-CCReID does
    c.DATA.CACHE = ""  # folder of ffreid data cache --out; "": beside the data; none: not used
    c.DATA.SKIP_BROKEN = False  # True: skip unreadable files and report how many
    c.DATA.SHARED_IDENTITIES = False  # folder: True: persons of train may be in query and gallery
    c.DATA.DENSE_SAMPLING = True  # tracklets: train on chunks of SAMPLING_STEP frames
    c.DATA.SAMPLING_STEP = 64
    c.DATA.TOY = CfgNode()  # toy-reid and toy-reid-video, generated on first use
    c.DATA.TOY.IDENTITIES = 20
    c.DATA.TOY.TEST_IDENTITIES = 20
    c.DATA.TOY.OUTFITS = 3
    c.DATA.TOY.CAMERAS = 4
    c.DATA.TOY.PICTURES = 4  # per identity, clothes and camera; tracklets: per identity and clothes
    c.DATA.TOY.FRAMES = 16  # per tracklet
    c.DATA.TOY.SEED = 0

    c.AUG = CfgNode()
    c.AUG.RC_PROB = 0.5  # random crop
    c.AUG.RE_PROB = 0.5  # random erasing
    c.AUG.RF_PROB = 0.5  # horizontal flip
    c.AUG.TEMPORAL_SAMPLING_MODE = "stride"  # or tsn: one frame from each of SEQ_LEN equal segments
    c.AUG.SEQ_LEN = 8  # frames per clip
    c.AUG.SAMPLING_STRIDE = 4

    c.MODEL = CfgNode()
    c.MODEL.NAME = "resnet50"
    c.MODEL.BACKBONE = "imagenet"  # initial weights of ResNet-50: imagenet, random, or a file
    c.MODEL.RES4_STRIDE = 1
    c.MODEL.FEATURE_DIM = 0  # follows from network and pooling
    c.MODEL.RESUME = ""  # --resume
    c.MODEL.POOLING = CfgNode()  # of image networks
    c.MODEL.POOLING.NAME = "maxavg"
    c.MODEL.POOLING.P = 3.0  # initial power of gem
    c.MODEL.AP3D = CfgNode()
    c.MODEL.AP3D.TEMPERATURE = 4.0
    c.MODEL.AP3D.CONTRACTIVE_ATT = True  # contrastive attention

    c.LOSS = CfgNode()
    c.LOSS.CLA_LOSS = "crossentropy"  # identity loss
    c.LOSS.CLOTHES_CLA_LOSS = "cosface"
    c.LOSS.CLA_S = 16.0
    c.LOSS.CLA_M = 0.0
    c.LOSS.PAIR_LOSS = "triplet"
    c.LOSS.PAIR_LOSS_WEIGHT = 0.0
    c.LOSS.PAIR_S = 16.0
    c.LOSS.PAIR_M = 0.3
    c.LOSS.PAIR_GRADIENT = "own"  # own: through the sample's batch-norm group only; or full
    c.LOSS.CAL = "cal"  # or calwithmemory; none: the paper's baseline, no clothes classifier
    c.LOSS.EPSILON = 0.1
    c.LOSS.MOMENTUM = 0.0  # of the memory bank (calwithmemory)
    c.LOSS.MEMORY_UPDATE = "asis"  # the last sample of each class; mean: their mean

    c.TRAIN = CfgNode()
    c.TRAIN.START_EPOCH = 0  # Simple-CCReID's; --resume knows the epoch
    c.TRAIN.MAX_EPOCH = 60
    c.TRAIN.STEPS = 0  # train for this many steps instead of MAX_EPOCH
    c.TRAIN.START_EPOCH_CC = 25  # epoch from which the clothes classifier trains
    c.TRAIN.START_EPOCH_ADV = 25  # epoch from which the adversarial loss trains
    c.TRAIN.BN_GROUPS = 1  # batch-norm groups per step; 2: as on the authors' two GPUs
    c.TRAIN.BATCH_NORM = "groups"  # or sync: statistics over the step, for any number of processes
    c.TRAIN.ACTIVATION_CHECKPOINTING = False  # less memory, one more forward pass
    c.TRAIN.OPTIMIZER = CfgNode()
    c.TRAIN.OPTIMIZER.NAME = "adam"
    c.TRAIN.OPTIMIZER.LR = 0.00035
    c.TRAIN.OPTIMIZER.WEIGHT_DECAY = 5e-4
    c.TRAIN.LR_SCHEDULER = CfgNode()
    c.TRAIN.LR_SCHEDULER.STEPSIZE = [20, 40]  # epochs at which the learning rate is multiplied
    c.TRAIN.LR_SCHEDULER.DECAY_RATE = 0.1
    engine_defaults.add(c.TRAIN)

    c.TEST = CfgNode()
    c.TEST.EVAL_STEP = 5  # epochs between evaluations; 0 or less: only at the end
    c.TEST.START_EVAL = 0
    c.TEST.SELECT_ON = "test"  # as Simple-CCReID; val if the dataset has a validation split
    c.TEST.PRECISION = "fp32"  # bf16: convolutions in bfloat16; eval --precision
    c.TEST.ENGINE = "torch"  # openvino: faster on CPUs (pip install 'ffreid[openvino]'); --engine
    return c


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work, before anything heavy is imported; set derived values."""
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    engine_defaults.check(cfg)
    for key in FRACTIONS:
        if not 0 <= (value := lookup(cfg, key)) <= 1:
            raise UserError(f"{key} is {value}", f"set {key} between 0 and 1")
    _check_network(cfg)
    if not cfg.is_frozen():
        cfg.MODEL.FEATURE_DIM = _feature_dim(cfg)
        cfg.DATA.DATASET = cfg.DATASET
    batch, instances = cfg.DATA.TRAIN_BATCH, cfg.DATA.NUM_INSTANCES
    if batch % instances:
        raise UserError(
            f"DATA.TRAIN_BATCH {batch} is not a multiple of DATA.NUM_INSTANCES {instances}",
            f"set DATA.TRAIN_BATCH {max(instances, batch // instances * instances)}, or "
            "DATA.NUM_INSTANCES to a divisor of the batch",
        )
    if (parts := cfg.TRAIN.ACCUMULATE) > 1:
        hint = (
            "or TRAIN.ACCUMULATE 1 (--amp, more processes and TRAIN.ACTIVATION_CHECKPOINTING "
            "also save memory)"
        )
        if cfg.LOSS.PAIR_LOSS_WEIGHT:
            raise UserError(
                f"LOSS.PAIR_LOSS {cfg.LOSS.PAIR_LOSS} needs all samples of a step at once; "
                f"TRAIN.ACCUMULATE {parts} splits it",
                f"set LOSS.PAIR_LOSS_WEIGHT 0, {hint}",
            )
        if cfg.LOSS.CAL == "calwithmemory":
            raise UserError(
                f"LOSS.CAL calwithmemory cannot be combined with TRAIN.ACCUMULATE {parts}: the "
                "memory changes with every micro-batch",
                f"set LOSS.CAL cal, {hint}",
            )
    if cfg.TRAIN.START_EPOCH:
        raise UserError(
            f"TRAIN.START_EPOCH is {cfg.TRAIN.START_EPOCH}",
            "set it to 0; --resume FILE continues at the epoch of the checkpoint",
        )
    if cfg.TEST.SELECT_ON == "val" and not DATASETS[cfg.DATA.LAYOUT].has_val:
        raise UserError(
            f"{cfg.DATASET} has no validation split",
            "set TEST.SELECT_ON test; datasets with a validation split: "
            + ", ".join(name for name, info in DATASETS.items() if info.has_val),
        )


def is_video(cfg: CfgNode) -> bool:
    """Whether the dataset consists of tracklets."""
    return DATASETS[cfg.DATA.LAYOUT].is_video


def _check_network(cfg: CfgNode) -> None:
    name, video = cfg.MODEL.NAME, is_video(cfg)
    networks = VIDEO_NETWORKS if video else IMAGE_NETWORKS
    if name not in networks:
        takes, has = ("images", "tracklets") if video else ("clips", "images")
        raise UserError(
            f"MODEL.NAME {name} takes {takes}, but {cfg.DATASET} has {has}",
            f"choose one of: {', '.join(networks)}",
        )
    if name in NON_LOCAL and min(cfg.DATA.HEIGHT, cfg.DATA.WIDTH) < NON_LOCAL_MIN_SIZE:
        raise UserError(
            f"DATA.HEIGHT {cfg.DATA.HEIGHT} x DATA.WIDTH {cfg.DATA.WIDTH} is too small for {name}",
            f"set both to {NON_LOCAL_MIN_SIZE} or more",
        )
    if cfg.MODEL.FEATURE_DIM not in (0, expected := _feature_dim(cfg)):
        pooling = "" if video else f" with {cfg.MODEL.POOLING.NAME} pooling"
        raise UserError(
            f"MODEL.FEATURE_DIM is {cfg.MODEL.FEATURE_DIM}, but {name}{pooling} has {expected}",
            "remove MODEL.FEATURE_DIM: it follows from the network",
        )


def _feature_dim(cfg: CfgNode) -> int:
    doubled = cfg.MODEL.NAME in IMAGE_NETWORKS and cfg.MODEL.POOLING.NAME == "maxavg"
    return 4096 if doubled else 2048


def check_root(cfg: CfgNode) -> None:
    """Refuse a dataset without a folder, or whose folder does not exist; toy data need none."""
    info = DATASETS[cfg.DATA.LAYOUT]
    if not info.is_toy:
        check_folder(cfg, info.tree)
