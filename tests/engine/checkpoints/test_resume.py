"""A run resumes from its last state and from no other."""

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
    complete = {
        "task": "reid",
        "step": 7,
        "total": 10,
        "best": 0.5,
        "parts": {},
        "optimisers": {},
        "classes": CLASSES,
        "config": configuration().dump(),
    }
    return complete | changed


def check(
    checkpoint: dict[str, Any], cfg: CfgNode | None = None, *, total: int = 10, free: Any = ()
) -> None:
    cfg = cfg or configuration()
    check_resumable(checkpoint, "last.pth", cfg, classes=CLASSES, total=total, free=free)


def refusal(checkpoint: dict[str, Any], *pairs: Any, total: int = 10) -> tuple[str, str]:
    with pytest.raises(UserError) as caught:
        check(checkpoint, configuration(*pairs), total=total)
    message, hint = caught.value.message, caught.value.hint
    assert "last.pth" in message and "\n" not in message + hint
    return message, hint


def test_a_run_resumes_from_its_state() -> None:
    check(state())
    # Entries that older versions did not write.
    check(state(measured={"rank1": 0.5}, dataset="ltcc"))
    # Settings that only one of the two knows.
    cfg = configuration()
    cfg.TRAIN.NEW = 1
    check(state(), cfg)


@pytest.mark.parametrize("name", NEEDED)
def test_a_checkpoint_that_lacks_an_entry_is_refused(name: str) -> None:
    incomplete = state()
    del incomplete[name]
    message, hint = refusal(incomplete)
    assert message == f"cannot resume from last.pth: it has no {name}"
    assert "last.pth" in hint


def test_a_file_of_the_original_is_refused_with_what_works() -> None:
    original = {"model_state_dict": {}, "classifier_state_dict": {}, "rank1": 0.4, "epoch": 59}
    assert "ffreid eval --checkpoint evaluates other files" in refusal(original)[1]


@pytest.mark.parametrize("task", ["reid", "pose"])
def test_a_checkpoint_of_another_data_set_names_it(task: str) -> None:
    message, hint = refusal(state(dataset="other", task=task, classes=["x"]))
    assert message == "last.pth was trained on other, not on ltcc"
    assert "use --dataset other" in hint


@pytest.mark.parametrize("task", ["pose", None])
def test_a_checkpoint_of_another_task_is_refused(task: str | None) -> None:
    assert f"is of the task {task}" in refusal(state(task=task))[0]


@pytest.mark.parametrize("classes", [["anna"], ["ben", "anna"], ["anna", "ben", "carl"]])
def test_a_checkpoint_of_other_classes_is_refused_with_what_works(classes: list[str]) -> None:
    message, hint = refusal(state(classes=classes))
    assert f"({len(classes)} there, 2 here)" in message
    assert "ffreid eval --checkpoint" in hint


@pytest.mark.parametrize(
    ("key", "now"), [("TRAIN.RATE", 0.2), ("DATA.HEIGHT", 32), ("MODEL.NAME", "other")]
)
def test_another_setting_is_named_with_both_values(key: str, now: Any) -> None:
    group, name = key.split(".")
    message, hint = refusal(state(), key, now)
    assert f"{key} {TREE[group][name]}, this run has {now}" in message
    assert f"resume with {key} {TREE[group][name]}" in hint


FREE = ("OUTPUT", "TAG", "DATA.ROOT", "MODEL.BACKBONE", "TRAIN.LOG_EVERY", "TRAIN.SAVE_EVERY")


@pytest.mark.parametrize("key", [*FREE, "TEST.EVERY", "TEST.BATCH"])
def test_settings_that_do_not_affect_training_may_change(key: str) -> None:
    assert key.startswith(FREE_TO_CHANGE)
    changed = configuration()
    now = "other" if isinstance(lookup(changed, key), str) else 1
    check(state(), configuration(key, now))


def test_a_task_may_allow_more_settings_to_change() -> None:
    check(state(), configuration("DATA.HEIGHT", 32), free=("DATA.HEIGHT",))


@pytest.mark.parametrize(
    ("total", "text"),
    [(12, "a run of 10 steps, this one has 12"), (5, "trained for 7 steps, this run has 5")],
)
def test_another_number_of_steps_is_reported(total: int, text: str) -> None:
    assert text in refusal(state(), total=total)[0]
