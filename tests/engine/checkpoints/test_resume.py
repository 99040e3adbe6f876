"""A run resumes only from states of a run with the same settings."""

from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid.config import lookup
from ffreid.engine.checkpoints.manager import NEEDED, check_resumable
from ffreid.engine.defaults import FREE_TO_CHANGE
from ffreid.errors import UserError

TREE: dict[str, Any] = {
    "TASK": "reid",
    "DATASET": "ltcc",
    "OUTPUT": "runs",
    "TAG": "mine",
    "DATA": {"ROOT": "/here", "HEIGHT": 64},
    "MODEL": {"BACKBONE": "imagenet", "NAME": "resnet50"},
    "TRAIN": {"LOG_EVERY": 10, "SAVE_EVERY": 500, "RATE": 0.1},
    "TEST": {"EVERY": 5, "BATCH": 4},
}
CLASSES = ["anna", "ben"]


def configuration(*pairs: Any) -> CfgNode:
    cfg = CfgNode(TREE)
    cfg.merge_from_list(list(pairs))
    return cfg


def state(**changed: Any) -> dict[str, Any]:
    complete = {"task": "reid", "step": 7, "total": 10, "best": 0.5, "classes": CLASSES}
    complete |= {"parts": {}, "optimisers": {}, "config": configuration().dump()}
    return complete | changed


def check(checkpoint: dict[str, Any], *pairs: Any, total: int = 10, free: Any = ()) -> None:
    cfg = configuration(*pairs)
    check_resumable(checkpoint, "last.pth", cfg, classes=CLASSES, total=total, free=free)


def refusal(checkpoint: dict[str, Any], *pairs: Any, total: int = 10) -> str:
    with pytest.raises(UserError) as caught:
        check(checkpoint, *pairs, total=total)
    text = f"{caught.value.message} | {caught.value.hint}"
    assert text.startswith(("last.pth ", "cannot resume from last.pth: ")) and "\n" not in text
    return text


def test_a_run_resumes_from_its_state_and_from_those_of_older_versions() -> None:
    check(state())
    check(state(measured={"rank1": 0.5}, dataset="ltcc"))
    older = configuration()
    del older.TRAIN["RATE"]
    check(state(config=older.dump()))


@pytest.mark.parametrize("name", NEEDED)
def test_a_checkpoint_that_lacks_an_entry_is_refused(name: str) -> None:
    incomplete = {key: value for key, value in state().items() if key != name}
    text = refusal(incomplete)
    assert f"it lacks {name} | use last.pth of a run; others can only be evaluated" in text


DIFFERENT: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "other", "classes": ["x"]}, "was trained on other, not on ltcc | use --dataset o"),
    ({"dataset": "other", "task": "pose"}, "was trained on other, not on ltcc | use --dataset o"),
    ({"task": "pose"}, "is of the task pose, ltcc of the task reid"),
    ({"task": None}, "is of the task None, ltcc of the task reid"),
    ({"classes": ["anna"]}, "(1 there, 2 here) | start from its weights with --init "),
    ({"classes": ["ben", "anna"]}, "(2 there, 2 here)"),
    ({"classes": ["anna", "ben", "carl"]}, "(3 there, 2 here)"),
    ({"total": 12}, "is from a run of 12 steps, this run has 10"),
    ({"step": 11, "total": 12}, "was trained for 11 steps, this run has 10"),
]


@pytest.mark.parametrize(("changed", "text"), DIFFERENT)
def test_a_checkpoint_of_another_run_is_refused(changed: dict[str, Any], text: str) -> None:
    assert text in refusal(state(**changed))


@pytest.mark.parametrize(("key", "value"), [("TRAIN.RATE", 0.2), ("MODEL.NAME", "other")])
def test_a_changed_setting_is_reported_with_both_values(key: str, value: Any) -> None:
    old = lookup(configuration(), key)
    text = refusal(state(), key, value)
    assert f"{key} {old}, this run has {value} | resume with {key} {old}, or" in text


FREE = ("OUTPUT", "TAG", "DATA.ROOT", "MODEL.BACKBONE", "TRAIN.LOG_EVERY", "TRAIN.SAVE_EVERY")


@pytest.mark.parametrize("key", [*FREE, "TEST.EVERY", "TEST.BATCH"])
def test_settings_that_do_not_affect_training_may_change(key: str) -> None:
    assert key.startswith(FREE_TO_CHANGE)
    check(state(), key, "other" if isinstance(lookup(configuration(), key), str) else 1)


def test_a_task_may_allow_more_settings_to_change() -> None:
    check(state(), "DATA.HEIGHT", 32, free=("DATA.HEIGHT",))
