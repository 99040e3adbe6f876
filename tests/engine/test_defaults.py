"""Settings of training that are refused, and old keys that still work."""

from pathlib import Path

import pytest
from yacs.config import CfgNode

from ffreid import tasks
from ffreid.config import differing, merge_file, merge_pairs
from ffreid.errors import UserError
from ffreid.recipes import compose

RATES = {
    "toy-pose": ("TRAIN.LR_MIN", "TRAIN.LR_MAX", "TRAIN.WEIGHT_DECAY", "LOSS.OFFSET_SAMPLES"),
    "toy-reid": (
        "TRAIN.OPTIMIZER.LR",
        "TRAIN.OPTIMIZER.WEIGHT_DECAY",
        "TRAIN.LR_SCHEDULER.DECAY_RATE",
        "LOSS.CLA_S",
        "LOSS.PAIR_S",
        "LOSS.PAIR_LOSS_WEIGHT",
        "LOSS.MOMENTUM",
    ),
}
COMMON = ("TRAIN.CLIP_NORM", "TRAIN.EMA")


@pytest.mark.parametrize("value", ["nan", "inf", "-.inf", "-1"])
@pytest.mark.parametrize(
    ("dataset", "key"), [(name, key) for name in RATES for key in (*RATES[name], *COMMON)]
)
def test_rates_decays_and_scales_are_finite_and_not_negative(
    dataset: str, key: str, value: str
) -> None:
    with pytest.raises(UserError, match=key.replace(".", r"\.")):
        compose(dataset, pairs=[key, value])


@pytest.mark.parametrize("task", tasks.TASKS)
def test_numbers_set_in_code_are_checked_too(task: str) -> None:
    cfg = tasks.defaults(task).defaults()
    cfg.TRAIN.CLIP_NORM = float("inf")
    with pytest.raises(UserError, match=r"TRAIN\.CLIP_NORM is inf"):
        tasks.defaults(task).check(cfg)


@pytest.mark.parametrize("value", ["1", "1.5"])
def test_an_average_needs_a_decay_below_one(value: str) -> None:
    with pytest.raises(UserError, match=r"TRAIN\.EMA is 1"):
        compose("toy-pose", pairs=["TRAIN.EMA", value])


def test_a_selection_needs_a_direction() -> None:
    with pytest.raises(UserError, match="'accuracy' does not end in max or min"):
        compose("toy-pose", pairs=["TRAIN.SELECT", "accuracy"])


@pytest.mark.parametrize(
    ("old", "value"),
    [
        ("TEST.SELECT_METRIC map", "mAP max"),
        ("TEST.SELECT_PROTOCOL SC", "SC rank-1 max"),
        ("TEST.SELECT_METRIC map TEST.SELECT_PROTOCOL SC", "SC mAP max"),
        ("TEST.SELECT_PROTOCOL SC TEST.SELECT_METRIC map", "SC mAP max"),
        ("TEST.SELECT_METRIC rank1", ""),
    ],
)
def test_old_keys_of_the_selection_work(old: str, value: str) -> None:
    cfg = compose("toy-reid", pairs=old.split())
    assert value == cfg.TRAIN.SELECT
    earlier = CfgNode({"TRAIN": {"SELECT": ""}, "TEST": {}})
    for name, setting in zip(old.split()[::2], old.split()[1::2], strict=True):
        earlier.TEST[name.removeprefix("TEST.")] = setting
    assert differing(cfg, earlier.dump()) == []


def test_the_old_key_of_single_frames_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tasks.defaults("pose").defaults()
    merge_pairs(cfg, ["DATA.OVERFIT", "[data/01/0185]"])
    assert cfg.DATA.FRAMES == ["data/01/0185"]
    assert "DATA.OVERFIT on the command line is deprecated; use DATA.FRAMES" in (
        capsys.readouterr().err
    )
    (tmp_path / "old.yaml").write_text("DATA: {OVERFIT: [a, b]}")
    merge_file(cfg, tmp_path / "old.yaml")
    assert cfg.DATA.FRAMES == ["a", "b"]
    assert differing(cfg, "DATA: {OVERFIT: [a, b]}") == []
