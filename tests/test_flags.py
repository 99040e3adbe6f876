"""Flags that several commands share, and what they refuse."""

import os
from pathlib import Path
from typing import Any

import pytest

from ffreid import flags
from ffreid.errors import UserError

NOTHING: dict[str, Any] = {
    "--checkpoint": None,
    "--pictures": 0,
    "--test-gt": False,
    "--predictions": None,
    "--truth": None,
    "--frames": None,
    "--save-features": None,
    "--features": None,
    "--rerank": False,
}
FILE = Path("x")


@pytest.fixture(autouse=True)
def _own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("given", "seen"), [(None, "7"), ("0", "0"), ("0,1", "0,1"), (" 2, 3 ,", "2,3")]
)
def test_devices_are_those_that_are_named(given: str | None, seen: str) -> None:
    flags.choose_devices(given)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize("given", ["cuda:0", "0;1", "-1", "a", "", ","])
def test_what_is_no_list_of_devices_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="is no list of devices") as caught:
        flags.choose_devices(given)
    assert "--gpu 0" in caught.value.hint
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize(("size", "told"), [(None, True), ("2", False)])
def test_several_devices_for_one_process_are_explained(
    size: str | None,
    told: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    flags.choose_devices("0,1", several="add --gpus {count}")
    assert ("for all of them add --gpus 2" in capsys.readouterr().err) is told


@pytest.mark.parametrize("flag", flags.TASKS)
def test_a_flag_of_the_other_task_is_refused(flag: str) -> None:
    own = flags.TASKS[flag]
    other = {"pose": "reid", "reid": "pose"}[own]
    flags.refuse_foreign(own, "mine", {flag: True})
    flags.refuse_foreign(other, "mine", {flag: False, "--pictures": 3})
    with pytest.raises(UserError, match=f"{flag} does nothing for mine"):
        flags.refuse_foreign(other, "mine", {"--pictures": 3, flag: True})


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"--predictions": FILE, "--checkpoint": FILE}, "--checkpoint"),
        ({"--predictions": FILE, "--test-gt": True, "--pictures": 2}, "--test-gt, --pictures"),
        ({"--features": FILE, "--checkpoint": FILE}, "--checkpoint"),
        ({"--features": FILE, "--pictures": 2}, "--pictures"),
        ({"--features": FILE, "--save-features": FILE}, "--save-features"),
        ({"--test-gt": True, "--checkpoint": FILE}, "--checkpoint"),
        ({"--truth": FILE}, "--truth"),
        ({"--frames": FILE}, "--frames"),
    ],
)
def test_flags_that_do_nothing_beside_others_are_refused(given: dict[str, Any], idle: str) -> None:
    with pytest.raises(UserError) as caught:
        flags.refuse_idle(NOTHING | given)
    assert caught.value.message.startswith(f"{idle} does nothing with")
    assert caught.value.hint == f"leave {idle.partition(',')[0]} out"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"--checkpoint": FILE, "--pictures": 3, "--save-features": FILE, "--rerank": True},
        {"--features": FILE, "--rerank": True},
        {"--predictions": FILE, "--truth": FILE, "--frames": FILE},
        {"--test-gt": True, "--pictures": 3},
    ],
)
def test_flags_that_work_together_are_let_through(given: dict[str, Any]) -> None:
    flags.refuse_idle(NOTHING | given)


def test_a_file_must_be_there_where_one_is_named(tmp_path: Path) -> None:
    flags.check_file(None, "checkpoint", "best.pth")
    (tmp_path / "there.pth").touch()
    flags.check_file(tmp_path / "there.pth", "checkpoint", "best.pth")
    for path in (tmp_path, tmp_path / "gone.pth"):
        with pytest.raises(UserError) as caught:
            flags.check_file(path, "checkpoint", "best.pth")
        assert str(path) in caught.value.message
        assert "best.pth" in caught.value.hint


@pytest.mark.parametrize(
    ("level", "settings", "said"),
    [
        (None, [], ""),
        (
            "O0",
            ["TRAIN.PRECISION", "fp32"],
            "O0 is deprecated: single precision is the default",
        ),
        ("O1", ["TRAIN.PRECISION", "amp"], "--opt_level O1 is deprecated and means --amp"),
        ("O2", ["TRAIN.PRECISION", "amp"], "--opt_level O2 is deprecated and means --amp"),
        ("O3", ["TRAIN.PRECISION", "amp"], "--opt_level O3 is deprecated and means --amp"),
    ],
)
def test_levels_of_apex_become_settings_and_are_explained(
    level: str | None, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flags.precision_of(level) == settings
    told = capsys.readouterr()
    assert (said in told.err) if said else not told.err
    assert not told.out


@pytest.mark.parametrize("level", ["O4", "o1", "1", ""])
def test_a_level_that_apex_has_not_is_told(level: str) -> None:
    with pytest.raises(UserError, match=f"--opt_level {level} is none of O0, O1, O2, O3"):
        flags.precision_of(level)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["MODEL.POOLING.NAME"], "MODEL.POOLING.NAME has no value"),
        (["b.pth", "c.pth"], "b.pth is neither the one file to write nor a setting"),
    ],
)
def test_words_after_a_file_that_are_no_pairs_are_refused(words: list[str], error: str) -> None:
    with pytest.raises(UserError) as caught:
        flags.check_pairs_after_file(words)
    assert caught.value.message == error


@pytest.mark.parametrize("words", [[], ["new.pth"], ["A.B", "1"], ["new.pth", "A.B", "1"]])
def test_a_file_and_pairs_pass(words: list[str]) -> None:
    flags.check_pairs_after_file(words)
