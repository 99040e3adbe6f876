"""What is told and written when a run begins or goes on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from yacs.config import CfgNode

from ffreid import report
from ffreid.engine import precision, runlog
from ffreid.engine.dist import World
from ffreid.engine.task import Plan


def tell(
    cfg: CfgNode,
    world: World,
    plan: Plan,
    folder: Path,
    *,
    summary: str,
    notes: Sequence[str],
    start: int,
    owed: bool,
    lines: int,
) -> None:
    """Write the run's settings and origin, cut its logs to where it goes on, and introduce it.

    Args:
        cfg: configuration.
        world: this process among those that share the work; only the first calls.
        plan: how long training is.
        folder: of the run.
        summary: of the data.
        notes: the task's, a line each.
        start: steps done before.
        owed: whether the evaluation after them is still to come.
        lines: how many of log_train.log are from before.

    Raises:
        UserError: a file cannot be written.
    """
    facts = runlog.provenance(cfg.SEED, world.size, str(world.device))
    facts |= {"data": summary, "resumed_at": start or None}
    runlog.write_start(folder, cfg, facts)
    runlog.drop_metrics_from(folder, start, owed=owed)
    runlog.keep_lines(folder, lines)
    report.say(
        f"training {cfg.DATASET}: {plan.total} steps of {plan.batch} samples, "
        f"{plan.steps_per_epoch} an epoch, "
        f"{world.size} process{'es' if world.size > 1 else ''} on {world.device.type}, "
        f"in {folder}"
    )
    report.say(f"data: {summary}")
    for line in (*_common_notes(cfg, world), *notes):
        report.say(f"note: {line}")


def _common_notes(cfg: CfgNode, world: World) -> Iterator[str]:
    """What of the settings is worth a word, whatever the task."""
    train = cfg.TRAIN
    if half := precision.half(cfg, world.device):
        yield f"networks compute in {str(half).removeprefix('torch.')}"
    if train.ACCUMULATE > 1:
        yield (
            f"each process takes its samples of a step in {train.ACCUMULATE} parts, and batch "
            "norm sees one part at a time"
        )
    if train.OVERFIT:
        yield f"training on {train.OVERFIT} samples, always the same"
