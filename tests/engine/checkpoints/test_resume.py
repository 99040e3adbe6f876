"""A run goes on from its own last state and from no other."""

from typing import Any

import pytest
from yacs.config import CfgNode

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
    whole = {
        "task": "reid",
        "step": 7,
        "total": 10,
        "best": 0.5,
        "parts": {},
        "optimisers": {},
        "classes": CLASSES,
        "config": configuration().dump(),
    }
    return whole | changed


def check(checkpoint: dict[str, Any], cfg: CfgNode, *, total: int = 10, free: Any = ()) -> None:
    check_resumable(checkpoint, "last.pth", cfg, classes=CLASSES, total=total, free=free)


def refusal(checkpoint: dict[str, Any], cfg: CfgNode, *, total: int = 10) -> UserError:
    with pytest.raises(UserError) as caught:
        check(checkpoint, cfg, total=total)
    assert "last.pth" in caught.value.message
    return caught.value


def test_a_run_goes_on_from_its_own_state() -> None:
    check(state(), configuration())


@pytest.mark.parametrize("name", NEEDED)
def test_a_checkpoint_that_lacks_something_is_refused(name: str) -> None:
    held = state()
    del held[name]
    error = refusal(held, configuration())
    assert error.message == f"last.pth holds no {name}, which going on needs"
    assert "last.pth" in error.hint


def test_numbers_that_older_checkpoints_lack_are_not_needed() -> None:
    check(state(), configuration())
    check(state(measured={"rank1": 0.5}, dataset="ltcc"), configuration())


def test_a_file_of_the_original_is_refused_and_what_works_is_said() -> None:
    held = {"model_state_dict": {}, "classifier_state_dict": {}, "rank1": 0.4, "epoch": 59}
    error = refusal(held, configuration())
    assert "\n" not in error.message + error.hint
    assert "ffreid eval --checkpoint evaluates other files" in error.hint


@pytest.mark.parametrize("task", ["reid", "pose"])
def test_a_checkpoint_of_another_data_set_names_it(task: str) -> None:
    error = refusal(state(dataset="other", task=task, classes=["x"]), configuration())
    assert error.message == "last.pth was trained on other, not on ltcc"
    assert "go on with --dataset other" in error.hint


@pytest.mark.parametrize("task", ["pose", None])
def test_a_checkpoint_of_another_task_is_refused(task: str | None) -> None:
    assert f"is of the task {task}" in refusal(state(task=task), configuration()).message


@pytest.mark.parametrize("classes", [["anna"], ["ben", "anna"], ["anna", "ben", "carl"]])
def test_a_checkpoint_of_other_classes_is_refused_and_what_works_is_said(
    classes: list[str],
) -> None:
    error = refusal(state(classes=classes), configuration())
    assert f"({len(classes)} there, 2 here)" in error.message
    assert "ffreid eval --checkpoint" in error.hint


@pytest.mark.parametrize(
    ("key", "now"), [("TRAIN.RATE", 0.2), ("DATA.HEIGHT", 32), ("MODEL.NAME", "other")]
)
def test_another_setting_is_named_with_both_values(key: str, now: Any) -> None:
    group, name = key.split(".")
    error = refusal(state(), configuration(key, now))
    assert f"{key} {TREE[group][name]}, this run has {now}" in error.message
    assert f"go on with {key} {TREE[group][name]}" in error.hint


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("OUTPUT", "else"),
        ("TAG", "else"),
        ("DATA.ROOT", "/there"),
        ("MODEL.BACKBONE", "random"),
        ("TRAIN.LOG_EVERY", 1),
        ("TRAIN.SAVE_EVERY", 1),
        ("TEST.EVERY", 1),
        ("TEST.BATCH", 1),
    ],
)
def test_settings_that_train_nothing_may_change(key: str, now: Any) -> None:
    assert key.startswith(FREE_TO_CHANGE)
    check(state(), configuration(key, now))


def test_a_task_says_what_else_may_change() -> None:
    cfg = configuration("DATA.HEIGHT", 32)
    check(state(), cfg, free=("DATA.HEIGHT",))
    with pytest.raises(UserError):
        check(state(), cfg, free=("DATA.WIDTH",))


def test_settings_that_only_one_of_the_two_knows_are_no_reason() -> None:
    cfg = configuration()
    cfg.TRAIN.NEW = 1
    check(state(), cfg)


def test_a_data_set_of_another_length_is_told() -> None:
    error = refusal(state(), configuration(), total=12)
    assert "a run of 10 steps, this one has 12" in error.message
