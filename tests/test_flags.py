"""Options that several commands share, and their errors."""

import os
from pathlib import Path

import pytest

from ffreid import flags
from ffreid.errors import UserError


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")


@pytest.mark.parametrize(
    ("devices", "visible"), [(None, "7"), ("0", "0"), ("0,1", "0,1"), (" 2, 3 ,", "2,3")]
)
def test_only_selected_devices_are_visible(devices: str | None, visible: str) -> None:
    flags.choose_devices(devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize("devices", ["cuda:0", "0;1", "-1", "a", "", ","])
def test_an_invalid_list_of_devices_is_refused(devices: str) -> None:
    with pytest.raises(UserError, match="is not a list of devices"):
        flags.choose_devices(devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_several_devices_for_one_process_have_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags.choose_devices("0,1", several="add --gpus {count}")
    assert "to use all, add --gpus 2" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    flags.choose_devices("0,1", several="add --gpus {count}")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("task", "option"),
    [(task, name) for task, names in flags.TASK_OPTIONS.items() for name in names],
)
def test_an_option_of_the_other_task_is_refused(task: str, option: str) -> None:
    (other,) = flags.TASK_OPTIONS.keys() - {task}
    flags.check_options(
        task, "mine", {option: True, "--predictions": option in ("--truth", "--frames")}
    )
    flags.check_options(other, "mine", {option: False, "--pictures": 3})
    with pytest.raises(UserError, match=f"{option} has no effect for mine"):
        flags.check_options(other, "mine", {option: True})


@pytest.mark.parametrize(
    ("task", "names", "error"),
    [
        ("pose", "--predictions --checkpoint", "--checkpoint has no effect with --predictions"),
        ("pose", "--predictions --test-gt", "--test-gt has no effect with --predictions"),
        ("reid", "--features --checkpoint", "--checkpoint has no effect with --features"),
        ("reid", "--features --pictures", "--pictures has no effect with --features"),
        ("reid", "--features --save-features", "--save-features has no effect with --features"),
        ("pose", "--test-gt --checkpoint", "--checkpoint has no effect with --test-gt"),
        ("pose", "--truth", "--truth has no effect without --predictions"),
        ("pose", "--frames", "--frames has no effect without --predictions"),
        ("reid", "--output", "--output has no effect without --show"),
        ("pose", "--eval --dry-run", "--dry-run has no effect with --eval"),
        ("pose", "--eval --profile", "--profile has no effect with --eval"),
        ("reid", "--dry-run --profile", "--profile has no effect with --dry-run"),
        ("pose", "", ""),
        ("reid", "--checkpoint --pictures --save-features --rerank", ""),
        ("reid", "--features --rerank", ""),
        ("pose", "--predictions --truth --frames", ""),
        ("pose", "--test-gt --pictures", ""),
    ],
)
def test_options_without_effect_are_refused(task: str, names: str, error: str) -> None:
    options = {"--predictions": None, "--show": None, **dict.fromkeys(names.split(), Path("x"))}
    if not error:
        flags.check_options(task, "mine", options)
        return
    with pytest.raises(UserError, match=f"^{error}") as caught:
        flags.check_options(task, "mine", options)
    assert caught.value.hint == f"remove {error.partition(' ')[0]}"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    flags.check_file(None, "checkpoint", "best.pth")
    (tmp_path / "valid.pth").touch()
    flags.check_file(tmp_path / "valid.pth", "checkpoint", "best.pth")
    with pytest.raises(UserError, match=f"{tmp_path}: it is a folder"):
        flags.check_file(tmp_path, "checkpoint", "best.pth")


@pytest.mark.parametrize(
    ("amp", "name", "level", "value", "note"),
    [
        (False, None, None, None, ""),
        (True, None, None, "amp", ""),
        (False, "bf16", None, "bf16", ""),
        (False, None, "O0", "fp32", "--opt_level O0 is deprecated; use --precision fp32"),
        (False, None, "O1", "amp", "--opt_level O1 is deprecated; use --amp"),
        (False, None, "O3", "amp", "--opt_level O3 is deprecated; use --amp"),
    ],
)
def test_options_of_precision_are_one_setting(
    amp: bool,
    name: str | None,
    level: str | None,
    value: str | None,
    note: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert flags.precision(amp, name, level) == (["TRAIN.PRECISION", value] if value else [])
    out, err = capsys.readouterr()
    assert note in err if note else not err
    assert not out


@pytest.mark.parametrize(
    ("amp", "level", "error"),
    [
        (False, "O4", "unknown --opt_level 'O4'"),
        (False, "o1", "unknown --opt_level 'o1'"),
        (True, "O1", "--amp and --opt_level cannot be combined"),
    ],
)
def test_contradicting_options_of_precision_are_refused(amp: bool, level: str, error: str) -> None:
    with pytest.raises(UserError, match=error):
        flags.precision(amp, None, level)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("MODEL.POOLING.NAME", "MODEL.POOLING.NAME has no value"),
        ("b.pth c.pth", "b.pth is not a setting, and there can be only one output file"),
    ],
)
def test_arguments_after_a_file_must_be_pairs(text: str, error: str) -> None:
    for valid in ("", "new.pth", "A.B 1", "new.pth A.B 1"):
        flags.check_pairs_after_file(valid.split())
    with pytest.raises(UserError, match=error):
        flags.check_pairs_after_file(text.split())
