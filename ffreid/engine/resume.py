"""May this checkpoint go on as this run?"""

from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from ffreid.config import differing
from ffreid.engine.recent import Best
from ffreid.engine.settings import FREE_TO_CHANGE
from ffreid.errors import UserError

NEEDED = ("step", "best", "parts", "optimisers", "classes", "total", "config")


def check_resumable(
    state: Mapping[str, Any],
    origin: str,
    cfg: CfgNode,
    *,
    classes: Sequence[str],
    total: int,
    free: Sequence[str],
) -> None:
    """Refuse a checkpoint from which this run cannot go on as if never interrupted.

    Args:
        state: the checkpoint.
        origin: its file, for the message.
        cfg: of the run.
        classes: what the run tells apart.
        total: steps of the run.
        free: the task's settings that may have changed, beside `settings.FREE_TO_CHANGE`.

    Raises:
        UserError: saying what differs.
    """
    for name in NEEDED:
        if name not in state:
            raise UserError(
                f"{origin} holds no {name}, which going on needs",
                "resume from a last.pth of ours; ffreid eval --checkpoint evaluates other files",
            )
    if state.get("dataset") not in (None, cfg.DATASET):
        raise UserError(
            f"{origin} was trained on {state['dataset']}, not on {cfg.DATASET}",
            f"go on with --dataset {state['dataset']}; ffreid eval --checkpoint may evaluate it",
        )
    if state.get("task") != cfg.TASK:
        raise UserError(
            f"{origin} is of the task {state.get('task')}, {cfg.DATASET} of another",
            "resume a run of the same data set",
        )
    if state["classes"] != list(classes):
        raise UserError(
            f"{origin} was trained on other classes than {cfg.DATASET} has "
            f"({len(state['classes'])} there, {len(classes)} here)",
            "resume a run of the same data set; ffreid eval --checkpoint may still evaluate it",
        )
    for key, then, now in differing(cfg, state["config"]):
        if not key.startswith((*FREE_TO_CHANGE, *free)):
            raise UserError(
                f"{origin} was trained with {key} {then}, this run has {now}",
                f"go on with {key} {then}, or start anew with --tag NAME",
            )
    if state["step"] > total:
        raise UserError(
            f"{origin} has trained {state['step']} steps, this run is {total} long",
            "ffreid eval --checkpoint evaluates it; a longer run has more epochs",
        )
    if state["total"] != total:
        raise UserError(
            f"{origin} is of a run of {state['total']} steps, this one has {total}",
            "the data set's lists have changed: restore them, or start anew with --tag NAME",
        )


def best_values(state: Mapping[str, Any]) -> dict[str, Best]:
    """Give a checkpoint's best values by the state's name.

    Earlier versions kept one, and did not say what of.
    """
    earlier = {} if state["best"] is None else {"best": {"name": "value", "value": state["best"]}}
    return {name: Best(**best) for name, best in state.get("bests", earlier).items()}
