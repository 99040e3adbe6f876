"""Settings that every task's training has, with their defaults; nothing heavy is imported."""

from yacs.config import CfgNode

from ffreid.config import check_choices, check_least, lookup
from ffreid.errors import UserError

CHOICES = {"TRAIN.PRECISION": ("fp32", "fp16", "bf16", "amp", "fp64")}
LEAST = {
    "TRAIN.ACCUMULATE": 1,
    "TRAIN.CLIP_NORM": 0,
    "TRAIN.EMA": 0,
    "TRAIN.OVERFIT": 0,
    "TRAIN.MAX_SKIPPED": 1,
    "TRAIN.LOG_EVERY": 1,
    "TRAIN.SAVE_EVERY": 1,
    "TRAIN.KEEP_EVERY": 0,
    "TRAIN.KEEP": 0,
}
FREE_TO_CHANGE = (
    "OUTPUT",
    "TAG",
    "DATA.ROOT",
    "MODEL.BACKBONE",
    "TRAIN.TF32",
    "TRAIN.COMPILE",
    "TRAIN.CHANNELS_LAST",
    "TRAIN.FUSED",
    "TRAIN.DETERMINISTIC",
    "TRAIN.MAX_SKIPPED",
    "TRAIN.LOG_EVERY",
    "TRAIN.SAVE_EVERY",
    "TRAIN.SELECT",
    "TRAIN.KEEP",
    "TRAIN.TENSORBOARD",
    "TEST.",
)
"""What a resumed run may have otherwise: it changes nothing that is trained, or its rounding."""


def add(train: CfgNode) -> None:
    """Put the settings into a task's node TRAIN."""
    train.PRECISION = "fp32"  # autocast: fp16 (with loss scaling), bf16, amp: bf16, else fp16; fp64
    train.TF32 = False  # True: GPUs round products of float32 to 10 bits, and are faster
    train.ACCUMULATE = 1  # parts of a process's share of a step, one after the other: less memory
    train.CLIP_NORM = 0.0  # cut longer gradients down to this length; 0 is off
    train.EMA = 0.0  # decay of an average of weights and statistics, e.g. 0.999; 0 is off
    train.COMPILE = ""  # torch.compile's backend: inductor (needs a compiler); "" is off
    train.CHANNELS_LAST = False  # pictures' channels innermost: faster in half precision on GPUs
    train.FUSED = False  # optimisers' fused kernels
    train.DETERMINISTIC = False  # refuse operations whose results vary from run to run
    train.OVERFIT = 0  # train on so many samples, always the same; --overfit
    train.MAX_SKIPPED = 10  # steps in a row without a finite loss that end the run
    train.SAVE_EVERY = 500  # steps between saves of last.pth; an evaluation saves too
    train.SELECT = (
        ""  # of an evaluation's row, "NAME max" or "NAME min", for best.pth; "": the task's
    )
    train.KEEP_EVERY = 0  # epochs between states that are kept as epoch-0001.pth …; 0 is never
    train.KEEP = 3  # how many of those, the newest; 0 is all
    train.LOG_EVERY = 10  # steps between lines of metrics.jsonl
    train.TENSORBOARD = False  # event files for TensorBoard as well; --tensorboard


def check(cfg: CfgNode) -> None:
    """Refuse values that cannot work.

    Raises:
        UserError: naming key and value.
    """
    check_choices(cfg, CHOICES)
    check_least(cfg, LEAST)
    if not lookup(cfg, "TRAIN.EMA") < 1:
        raise UserError(
            f"TRAIN.EMA is {cfg.TRAIN.EMA}", "set it below 1, e.g. 0.999, or to 0 for none"
        )
    if (select := cfg.TRAIN.SELECT) and not select.endswith((" max", " min")):
        raise UserError(
            f"TRAIN.SELECT {select!r} does not say which direction is better",
            "write e.g. TRAIN.SELECT 'accuracy max', a name from the run's metrics.jsonl",
        )
