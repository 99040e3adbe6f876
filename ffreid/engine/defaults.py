"""Settings of every task's training, with their defaults; torch is not imported."""

import math
from typing import Any

from yacs.config import CfgNode

from ffreid.config import check_choices, check_least, keys, leaves, lookup
from ffreid.errors import UserError

CHOICES = {
    "TRAIN.PRECISION": ("fp32", "fp16", "bf16", "amp", "fp64"),
    "TRAIN.FINGERPRINT": ("sizes", "contents"),
}
LEAST = {f"TRAIN.{key}": 1 for key in ("ACCUMULATE", "MAX_SKIPPED", "LOG_EVERY", "SAVE_EVERY")}
LEAST |= {f"TRAIN.{key}": 0 for key in ("CLIP_NORM", "EMA", "OVERFIT", "KEEP_EVERY", "KEEP")}
PATHS = ("OUTPUT", "TAG", "DATA.ROOT", "DATA.OBJECT_SET", "MODEL.BACKBONE")
KERNELS = tuple(f"TRAIN.{key}" for key in ("TF32", "COMPILE", "CHANNELS_LAST", "FUSED"))
REPORTS = ("TRAIN.LOG_EVERY", "TRAIN.SAVE_EVERY", "TRAIN.SELECT", "TRAIN.KEEP", "TRAIN.TENSORBOARD")
CHECKS = ("TRAIN.DETERMINISTIC", "TRAIN.MAX_SKIPPED", "TRAIN.FINGERPRINT")
FREE_TO_CHANGE = (*PATHS, *KERNELS, *REPORTS, *CHECKS, "TEST.")
"""Settings that a resumed run may change: they affect nothing that is trained, or only rounding."""

PER_HOST = ("OUTPUT", "DATA.ROOT", "DATA.OBJECT_SET", "MODEL.BACKBONE", "MODEL.RESUME", "RECIPE")
"""Paths, which may differ between the hosts of a run."""
PER_PROCESS = ("DATA.WORKERS", "DATA.NUM_WORKERS", "GPU")
"""Settings that may differ between the processes of a run."""


def add(train: CfgNode) -> None:
    """Put the settings into a task's node TRAIN."""
    train.PRECISION = "fp32"  # fp16, bf16 (autocast), amp (bf16, else fp16, on CPUs fp32), fp64
    train.TF32 = False  # let GPUs round float32 matrix products to TF32
    train.ACCUMULATE = 1  # micro-batches a step: less memory
    train.CLIP_NORM = 0.0  # largest gradient norm; 0 is off
    train.EMA = 0.0  # decay of averaged weights, e.g. 0.999; 0 disables it
    train.COMPILE = ""  # backend of torch.compile, e.g. inductor (needs a compiler); "" is off
    train.CHANNELS_LAST = False  # memory format: faster with autocast; always in bf16 on CPUs
    train.FUSED = False  # fused optimiser kernels; always in bf16 on CPUs
    train.DETERMINISTIC = False  # refuse operations whose results vary from run to run
    train.FINGERPRINT = "sizes"  # of files, or contents: a resumed run checks its data
    train.OVERFIT = 0  # train on the first N samples, always with the same augmentation; --overfit
    train.MAX_SKIPPED = 10  # end the run after N skipped steps (loss not finite) in a row
    train.SAVE_EVERY = 500  # steps between saves of last.pth; evaluations save too
    train.SELECT = ""  # number of an evaluation that selects best.pth: "NAME max" or "NAME min"
    train.KEEP_EVERY = 0  # epochs between kept checkpoints, epoch-0001.pth …; 0 is never
    train.KEEP = 3  # keep the newest N of these; 0 is all
    train.LOG_EVERY = 10  # steps between lines of metrics.jsonl
    train.TENSORBOARD = False  # also write TensorBoard event files; --tensorboard


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work."""
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    for key in keys(cfg):
        if isinstance(value := lookup(cfg, key), float) and not math.isfinite(value):
            raise UserError(f"{key} is {value}", f"set {key} to a finite number")
        if key.endswith("SEED") and value >= 2**32:
            raise UserError(f"{key} is {value}", f"set {key} to {2**32 - 1} or less")
    if cfg.TRAIN.EMA >= 1:
        raise UserError(
            f"TRAIN.EMA is {cfg.TRAIN.EMA}", "set it below 1, e.g. 0.999; 0 disables it"
        )
    if (select := cfg.TRAIN.SELECT) and not select.endswith((" max", " min")):
        raise UserError(
            f"TRAIN.SELECT {select!r} does not end in max or min",
            "use e.g. TRAIN.SELECT 'accuracy max', with a name from the run's metrics.jsonl",
        )


def facts(cfg: CfgNode, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `group.process_group` compares: in all processes, and in those of a host."""
    settings = {key: value for key, value in leaves(cfg) if key not in PER_PROCESS} | options
    return settings, {key: settings.pop(key) for key in PER_HOST if key in settings}
