"""A mistake is two lines and exit code 2; looking at the command line imports nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid import __version__, runner
from ffreid.cli import main
from ffreid.engine.checkpoints import io
from tests.makers import toy_folder

TOY = ["DATA.TOY.TRAIN", "4", "DATA.TOY.TEST", "2", "DATA.TOY.SYNTHETIC", "2", "DATA.WORKERS", "0"]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FFREID_DATA", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("data"))


def mistake(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    """Error and hint of a command line that fails as a mistake should."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    heard = capsys.readouterr()
    assert caught.value.code == 2
    assert heard.out == ""
    error, hint = heard.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def finished(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


TRAIN = ("train", "--dataset", "toy-pose")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("train", "--dataset", "toy-pos"), "unknown dataset 'toy-pos'", "did you mean toy-pose?"),
        (("eval", "--dataset", "xyzzy"), "unknown dataset 'xyzzy'", "choose one of: "),
        ((*TRAIN, "TRAIN.BACH", "2"), "unknown key TRAIN.BACH", "did you mean TRAIN.BATCH?"),
        ((*TRAIN, "--tga", "a"), "no such option: --tga", "did you mean --tag?"),
        ((*TRAIN, "--xyzzy"), "no such option: --xyzzy", "see ffreid train --help"),
        (("trian",), "no such command 'trian'", "see ffreid --help"),
        (("train",), "missing option '--dataset'", "see ffreid train --help"),
        (("train", "--dataset"), "option '--dataset' requires an argument", "see ffreid"),
        (("eval", *TRAIN[1:], "--pictures", "many"), "invalid value for '--pictures'", "see "),
        (
            (*TRAIN, "TRAIN.BATCH", "many"),
            "TRAIN.BATCH is 'many' on the command line",
            "use e.g. TRAIN.BATCH",
        ),
        ((*TRAIN, "TRAIN.BATCH", "2.5"), "TRAIN.BATCH is '2.5' on the command line", "use e.g. "),
        ((*TRAIN, "TRAIN.BATCH", "0"), "TRAIN.BATCH is 0", "set TRAIN.BATCH to 1 or more"),
        ((*TRAIN, "TRAIN.PRECISION", "fp8"), "TRAIN.PRECISION is 'fp8'", "choose one of: "),
        ((*TRAIN, "TRAIN.BATCH"), "'TRAIN.BATCH' has no value", "settings come in pairs"),
        ((*TRAIN, "--cfg", "no.yaml"), "cannot read no.yaml", "use --cfg FILE"),
        (("train", "--dataset", "linemod"), "no LineMOD object given", "use --cls NAME"),
        (
            ("eval", "--dataset", "linemod", "--cls", "x"),
            "LineMOD has no object 'x'",
            "use --cls NAME",
        ),
        (("bench", "xyzzy"), "unknown task 'xyzzy'", "use ffreid bench pose"),
    ],
)
def test_a_mistyped_command_line_is_two_lines(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str, hint: str
) -> None:
    found = mistake(capsys, *words)
    assert found[0].startswith(error)
    assert found[1].startswith(hint)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--dataset", "ltcc", "--eval"),
        ("eval", "--dataset", "ltcc"),
        ("data", "--dataset", "ltcc"),
    ],
)
def test_negative_numbers_and_lists_are_values(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Any] = []
    for name in ("evaluate", "describe_dataset"):
        monkeypatch.setattr(runner, name, lambda config, **_: configs.append(config))
    pairs = ("TEST.EVAL_STEP", "-1", "TRAIN.LR_SCHEDULER.STEPSIZE", "20", "--root", tmp_path)
    assert finished(*words, *pairs, "LOSS.PAIR_M", "-.5", "TAG", "2024-02-30") == 0
    (config,) = configs
    assert (config.TEST.EVAL_STEP, config.LOSS.PAIR_M, config.TAG) == (-1, -0.5, "2024-02-30")
    assert config.TRAIN.LR_SCHEDULER.STEPSIZE == [20]


def test_negative_numbers_are_values_for_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[Any] = []
    monkeypatch.setattr("ffreid.convert.convert", lambda *_, **kw: settings.append(kw["settings"]))
    (tmp_path / "old.pth").touch()
    assert finished("convert-ckpt", tmp_path / "old.pth", "--dry-run", "LOSS.PAIR_M", "-1e-3") == 0
    assert settings == [["LOSS.PAIR_M", "-1e-3"]]


@pytest.mark.parametrize("command", [("train",), ("eval", "--test-gt")])
@pytest.mark.parametrize("dataset", [("ycb",), ("linemod", "--cls", "ape")])
def test_a_missing_root_is_told(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: tuple[str, ...],
    dataset: tuple[str, ...],
) -> None:
    error, hint = mistake(capsys, *command, "--dataset", *dataset, "--output", tmp_path)
    assert error == f"no data folder for {dataset[0]}"
    assert "--root FOLDER" in hint


@pytest.mark.parametrize("dataset", [("ycb",), ("linemod", "--cls", "ape")])
def test_a_root_without_the_data_set_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dataset: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["train", "--root", tmp_path / "empty", "--output", tmp_path, "--dataset", *dataset]
    assert str(tmp_path / "empty") in mistake(capsys, *words)[0]


def test_an_output_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    error, hint = mistake(capsys, *TRAIN, "--output", tmp_path / "file" / "runs")
    assert error.startswith(f"cannot write in {tmp_path / 'file' / 'runs'}")
    assert "--output" in hint


@pytest.mark.parametrize("flag", [("train", "--resume"), ("eval", "--checkpoint")])
@pytest.mark.parametrize(
    ("content", "error"), [(None, "no checkpoint "), (b"<html>", "is no readable checkpoint")]
)
def test_an_unreadable_checkpoint_is_named(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    flag: tuple[str, str],
    content: bytes | None,
    error: str,
) -> None:
    if content is not None:
        (tmp_path / "a.pth").write_bytes(content)
    words = [flag[0], *TRAIN[1:], "--root", data, "--output", tmp_path, flag[1], tmp_path / "a.pth"]
    found, hint = mistake(capsys, *words, *TOY)
    assert error in found
    assert str(tmp_path / "a.pth") in found
    assert "weights_only" not in found + hint


OTHER = {
    "task": "pose",
    "config": "SEED: 0\n",
    "classes": ["can", "bowl"],
    "step": 1,
    "total": 9,
    "best": 0.0,
    "optimisers": {},
}


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        (("eval", "--checkpoint"), "is for 2 objects (can, bowl), the dataset has 5 ("),
        (("train", "--resume"), "was trained on other classes than toy-pose has (2 there, 5 here)"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    flag: tuple[str, str],
    error: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What comes after the check would be the network of 34 million parameters.
    monkeypatch.setattr("ffreid.pose.build.FFB6D", lambda *_: torch.nn.Linear(1, 1))
    monkeypatch.setattr("ffreid.pose.build.set_point_momentum", lambda *_: None)
    path = tmp_path / "other.pth"
    io.save(path, {**OTHER, "parts": {"net": {"weight": torch.zeros(1)}}})
    words = [flag[0], *TRAIN[1:], "--root", data, "--output", tmp_path, flag[1], path]
    assert error in mistake(capsys, *words, *TOY)[0]


def test_a_file_that_is_no_checkpoint_of_ours_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    io.save(tmp_path / "resnet.pth", {"conv1.weight": torch.zeros(1)})
    words = ["eval", *TRAIN[1:], "--root", data, "--checkpoint", tmp_path / "resnet.pth"]
    assert "holds no FFB6D" in mistake(capsys, *words, *TOY)[0]


def test_an_evaluation_before_any_training_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error, hint = mistake(capsys, "eval", *TRAIN[1:], "--output", tmp_path)
    assert error == f"no checkpoint in {tmp_path / 'toy-pose' / 'default'}"
    assert "--checkpoint FILE" in hint


def test_a_run_is_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "toy-pose" / "mine"
    io.save(folder / "last.pth", {"step": 1})
    error, hint = mistake(capsys, *TRAIN, "--output", tmp_path, "--tag", "mine")
    assert error == f"{folder} already contains a run"
    assert "--resume auto" in hint
    assert io.load(folder / "last.pth") == {"step": 1}


def test_another_name_makes_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.save(tmp_path / "toy-pose" / "mine" / "last.pth", {"step": 1})
    # Ends where the data would be rendered.
    monkeypatch.setattr("ffreid.pose.sources.ensure_toy", interrupt)
    assert finished(*TRAIN, "--output", tmp_path, "--tag", "other") == 130
    assert (tmp_path / "toy-pose" / "other").is_dir()


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interruption_is_code_130_and_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "train", interrupt)
    assert finished(*TRAIN) == 130
    out, err = capsys.readouterr()
    assert out == ""
    error, hint = err.splitlines()
    assert error == "error: interrupted"
    assert "--resume" in hint


def test_a_bug_is_not_told_as_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(runner, "train", bug)
    with pytest.raises(ValueError, match="a bug"):
        main([*TRAIN])


def test_help_and_version_are_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert finished("--version") == 0
    assert capsys.readouterr() == (f"ffreid {__version__}\n", "")
    assert finished("train", "--help") == 0
    assert "--dataset" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert finished() == 2
    heard = capsys.readouterr()
    assert "train" in heard.out
    assert heard.err == "error: no command\nhint: see ffreid --help\n"


def test_true_labels_find_the_toy_objects(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    words = ["eval", *TRAIN[1:], "--root", data, "--output", tmp_path, "--test-gt"]
    written = tmp_path / "copy.json"
    assert finished(*words, "--pictures", 1, "--json", written, *TOY) == 0
    folder = tmp_path / "toy-pose" / "default" / "test-gt"
    results = json.loads((folder / "results.json").read_text())
    assert json.loads(written.read_text()) == results
    assert results["frames"] == 2
    assert results["weights"] == "none: true labels and offsets"
    assert results["results"]["pooled"]["ADD-S_auc"] > 95
    assert "ADD-S AUC" in capsys.readouterr().out
    assert len(list((folder / "pictures").glob("*.png"))) == 1
    poses = json.loads((folder / "poses.json").read_text())["poses"]
    assert {pose["frame"] for pose in poses} == {"data/0048/000001", "data/0048/000002"}


LIGHT = """
import sys
from ffreid.cli import main
from ffreid.recipes import compose, recipes
for name in recipes():
    compose(name, cls="ape" if name == "linemod" else None)
heavy = {name.partition(".")[0] for name in sys.modules}
print(sorted(heavy & {"torch", "torchvision", "scipy", "cv2", "numpy", "PIL"}))
"""


def test_composing_a_configuration_imports_nothing_heavy() -> None:
    words = [sys.executable, "-c", LIGHT]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--truth", "x"), "--truth has no effect without --predictions"),
        (("--frames", "x"), "--frames has no effect without --predictions"),
        (("--test-gt", "--checkpoint", "x"), "--checkpoint has no effect with --test-gt"),
        (("--predictions", "x", "--pictures", "2"), "--pictures has no effect with --predictions"),
        (("--checkpoint", "gone.pth"), "no checkpoint gone.pth"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    assert mistake(capsys, "eval", *TRAIN[1:], *words)[0].startswith(error)


def test_an_unwritable_json_file_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ["eval", *TRAIN[1:], "--root", data, "--output", tmp_path, "--test-gt"]
    words += ["--json", tmp_path / "file" / "results.json"]
    assert "cannot write" in mistake(capsys, *words, *TOY)[0]
    assert not (tmp_path / "toy-pose").exists()
