"""User errors are two lines with exit code 2; parsing imports no heavy packages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid import __version__, runner
from ffreid.cli import main
from ffreid.engine.checkpoints import io
from tests.commands import exit_code, mistake
from tests.makers import toy_folder

TRAIN, EVAL = "train --dataset toy-pose", "eval --dataset toy-pose"
TOY = "DATA.TOY.TRAIN 4 DATA.TOY.TEST 2 DATA.TOY.SYNTHETIC 2 DATA.WORKERS 0"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("data"))


MISTAKES = [
    ("train --dataset toy-pos", "unknown dataset 'toy-pos'", "did you mean toy-pose?"),
    ("eval --dataset xyzzy", "unknown dataset 'xyzzy'", "choose one of: "),
    ("train --dataset ycb", "no data folder for ycb", "use --root FOLDER"),
    ("eval --dataset linemod --cls ape", "no data folder for linemod", "use --root FOLDER"),
    ("data --dataset ltcc --root /nowhere", "no folder /nowhere", "use --root FOLDER"),
    ("train --dataset linemod", "no LineMOD object given", "use --cls NAME"),
    ("eval --dataset linemod --cls x", "LineMOD has no object 'x'", "use --cls NAME"),
    (f"{TRAIN} TRAIN.BACH 2", "unknown key TRAIN.BACH", "did you mean TRAIN.BATCH?"),
    (f"{TRAIN} TRAIN.BATCH", "'TRAIN.BATCH' has no value", "settings come in pairs"),
    (f"{TRAIN} TRAIN.BATCH 2.5", "TRAIN.BATCH is '2.5' on the command line", "use e.g. TRAIN.B"),
    (f"{TRAIN} TRAIN.BATCH 0", "TRAIN.BATCH is 0", "set TRAIN.BATCH to 1 or more"),
    (f"{TRAIN} --precision fp8", "TRAIN.PRECISION is 'fp8'", "choose one of: "),
    (f"{TRAIN} --amp --precision fp16", "--precision and --amp cannot be combined", "remove --"),
    (f"{TRAIN} --cfg no.yaml", "cannot read no.yaml", "use --cfg FILE"),
    (f"{TRAIN} --gpu cuda:0", "--gpu 'cuda:0' is not a list of devices", "use e.g. --gpu 0"),
    (f"{TRAIN} --resume gone.pth", "no checkpoint gone.pth", "use an existing file"),
    (f"{TRAIN} --init a.pth --resume b.pth", "--init and --resume b.pth cannot", "remove --re"),
    (f"{TRAIN} --init a.pth MODEL.BACKBONE random", "--init and MODEL.BACKBONE cannot", "remove M"),
    (f"{TRAIN} SEED 4294967296", "SEED is 4294967296", "set SEED to 4294967295 or less"),
    (f"{TRAIN} --init gone.pth", "no checkpoint gone.pth", "use an existing file"),
    (f"{EVAL} --checkpoint gone.pth", "no checkpoint gone.pth", "use an existing file"),
    (f"{EVAL} --truth x", "--truth has no effect without --predictions", "remove --truth"),
    (f"{EVAL} --rerank", "--rerank has no effect for toy-pose", "remove --rerank"),
    (f"{EVAL} --pictures many", "invalid value for '--pictures'", "see ffreid eval --help"),
    (f"{TRAIN} --tga a", "no such option: --tga", "did you mean --tag?"),
    (f"{TRAIN} --xyzzy", "no such option: --xyzzy", "see ffreid train --help"),
    ("smoke --jsno", "no such option: --jsno", "did you mean --json?"),
    ("trian", "no such command 'trian'", "did you mean train?"),
    ("train", "missing option '--dataset'", "see ffreid train --help"),
    ("train --dataset", "option '--dataset' requires an argument", "see ffreid"),
    ("runs plot", "plot needs at least one folder", "use ffreid runs plot FOLDER"),
    ("convert-ckpt gone.pth", "no checkpoint gone.pth", "use an existing file"),
    ("migrate ls", "not a command of FFB6D or Simple-CCReID: ls", "use a command"),
    ("bench xyzzy", "unknown task 'xyzzy'", "use ffreid bench pose"),
]


@pytest.mark.parametrize(("command", "error", "hint"), MISTAKES)
def test_an_error_on_the_command_line_is_two_lines(
    capsys: pytest.CaptureFixture[str], command: str, error: str, hint: str
) -> None:
    lines = mistake(capsys, command)
    assert lines[0].startswith(error)
    assert lines[1].startswith(hint)


LIGHT = f"""
import sys
import ffreid
dir(ffreid)
assert not sys.modules.keys() & {{"numpy", "ffreid.api"}}
from contextlib import suppress
from ffreid.cli import main
from ffreid.recipes import compose, recipes
for command in {[command for command, *_ in MISTAKES]}:
    with suppress(SystemExit):
        main(command.split())
    assert "torch" not in sys.modules, command
for name in recipes():
    compose(name, cls="ape" if name == "linemod" else None)
heavy = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(heavy & {{"torch", "torchvision", "scipy", "cv2", "PIL"}}))
"""


def test_errors_and_configurations_import_no_heavy_packages() -> None:
    command = [sys.executable, "-c", LIGHT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["train --eval", "eval", "data"])
def test_negative_numbers_lists_and_dates_are_values(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Any] = []
    for name in ("evaluate", "describe_dataset"):
        monkeypatch.setattr(runner, name, lambda config, **_: configs.append(config))
    pairs = "TEST.EVAL_STEP -1 TRAIN.LR_SCHEDULER.STEPSIZE 20 LOSS.PAIR_M -.5 TAG 2024-02-30"
    assert exit_code(f"{command} --dataset ltcc {pairs} --root {tmp_path}") == 0
    (config,) = configs
    assert (config.TEST.EVAL_STEP, config.LOSS.PAIR_M, config.TAG) == (-1, -0.5, "2024-02-30")
    assert config.TRAIN.LR_SCHEDULER.STEPSIZE == [20]


def test_negative_numbers_are_values_for_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[Any] = []
    monkeypatch.setattr("ffreid.convert.convert", lambda *_, **kw: settings.append(kw["settings"]))
    (tmp_path / "old.pth").touch()
    assert exit_code(f"convert-ckpt {tmp_path}/old.pth --dry-run LOSS.PAIR_M -1e-3") == 0
    assert settings == [["LOSS.PAIR_M", "-1e-3"]]


@pytest.mark.parametrize(
    ("command", "error", "hint"),
    [
        ("train --dataset ycb --root {0}/empty", "{0}/empty", ""),
        ("train --dataset linemod --cls ape --root {0}/empty", "{0}/empty", ""),
        (f"{TRAIN} --output {{0}}/a.pth/runs", "cannot write in {0}/a.pth/runs", "--output"),
        (f"{EVAL} --output {{0}} --test-gt --json {{0}}/a.pth/b.json", "cannot write", "--json"),
        (f"{TRAIN} --output {{0}} --resume {{0}}/a.pth", "cannot read checkpoint {0}/a.pth", ""),
        (f"{EVAL} --checkpoint {{0}}/a.pth", "cannot read checkpoint {0}/a.pth", ""),
        (f"{EVAL} --checkpoint {{0}}/resnet.pth", "contains no FFB6D", ""),
        (f"{EVAL} --output {{0}}", "no checkpoint in {0}/toy-pose/default", "--checkpoint FILE"),
    ],
)
def test_an_unsuitable_file_or_folder_is_an_error(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data: Path,
    command: str,
    error: str,
    hint: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.pth").write_bytes(b"<html>")
    io.save(tmp_path / "resnet.pth", {"conv1.weight": torch.zeros(1)})
    text = command.format(tmp_path)
    text += "" if "--root" in text else f" --root {data} {TOY}"
    lines = mistake(capsys, text)
    assert error.format(tmp_path) in lines[0]
    assert hint in lines[1]
    assert "weights_only" not in "".join(lines)
    if "--json" in command:
        assert not (tmp_path / "toy-pose").exists()


EVAL_GT = f"{EVAL} --test-gt --output {{0}}"
LONG = "x" * 300
WORK = (
    "ffreid.pose.evaluation.evaluate_frames",
    "ffreid.tasks.dataset_report",
    "ffreid.convert.io.load",
    "ffreid.bench.pose.bench",
    "ffreid.smoke._checks",
    "ffreid.runner.Trainer",
)


@pytest.mark.parametrize(
    "command",
    [
        f"{EVAL_GT} --json {{0}}/fifo",
        f"{EVAL_GT} --json {{0}}/folder",
        f"{EVAL_GT} --json {{0}}/{LONG}.json",
        f"{EVAL_GT} --tag results-is-a-folder",
        f"{EVAL_GT} --tag poses-is-a-fifo",
        f"{EVAL_GT} --tag pictures-is-a-file --pictures 2",
        f"{EVAL_GT} --tag {LONG}",
        f"{EVAL} --output {{0}} --tag {LONG}",
        f"{TRAIN} --output {{0}} --tag {LONG}",
        "data --dataset toy-pose --json {0}/fifo",
        "bench pose --json {0}/fifo",
        "smoke --json {0}/fifo",
        "convert-ckpt {0}/a.pth {0}/fifo --force",
        "convert-ckpt {0}/a.pth {0}/" + LONG,
        "convert-ckpt {0}/a.pth {0}/a.pth/new.pth",
    ],
)
def test_unwritable_paths_are_refused_before_the_work(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data: Path,
    command: str,
) -> None:
    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in WORK:
        monkeypatch.setattr(name, reached)
    os.mkfifo(tmp_path / "fifo")
    runs = tmp_path / "toy-pose"
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.pth").touch()
    (runs / "results-is-a-folder/test-gt/results.json").mkdir(parents=True)
    (runs / "poses-is-a-fifo/test-gt").mkdir(parents=True)
    os.mkfifo(runs / "poses-is-a-fifo/test-gt/poses.json")
    (runs / "pictures-is-a-file/test-gt").mkdir(parents=True)
    (runs / "pictures-is-a-file/test-gt/pictures").touch()
    words = command.format(tmp_path)
    words += f" --root {data} {TOY}" if "toy-pose" in words.split() else ""
    error, _ = mistake(capsys, words)
    assert error.startswith(("cannot write", "cannot use"))
    assert str(tmp_path) in error
    assert error.isprintable()


def test_a_checkpoint_of_other_classes_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The network of 34 million parameters would only be built after the check.
    monkeypatch.setattr("ffreid.pose.build.FFB6D", lambda *_: torch.nn.Linear(1, 1))
    monkeypatch.setattr("ffreid.pose.build.set_point_momentum", lambda *_: None)
    state = {"task": "pose", "config": "SEED: 0\n", "classes": ["can", "bowl"], "step": 1}
    state |= {"total": 9, "best": 0.0, "optimisers": {}}
    io.save(tmp_path / "other.pth", {**state, "parts": {"net": {"weight": torch.zeros(1)}}})
    rest = f"{tmp_path}/other.pth --root {data} --output {tmp_path} {TOY}"
    error = "is for 2 objects (can, bowl), the dataset has 5 ("
    assert error in mistake(capsys, f"{EVAL} --checkpoint {rest}")[0]
    error = "was trained on other classes than those of toy-pose (2 there, 5 here)"
    assert error in mistake(capsys, f"{TRAIN} --resume {rest}")[0]


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toy-pose" / "mine"
    io.save(folder / "last.pth", {"step": 1})
    error, hint = mistake(capsys, f"{TRAIN} --output {tmp_path} --tag mine")
    assert error == f"{folder} already contains a run (last.pth)"
    assert "--resume auto" in hint
    assert io.load(folder / "last.pth") == {"step": 1}
    monkeypatch.setattr("ffreid.pose.sources.ensure_toy", interrupt)
    assert exit_code(f"{TRAIN} --output {tmp_path} --tag other") == 130
    assert (tmp_path / "toy-pose" / "other").is_dir()


def test_an_interruption_is_code_130_and_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "train", interrupt)
    assert exit_code(TRAIN) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: interrupted\nhint: ")
    assert "--resume" in err


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "train", lambda *_, **__: int("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        main(TRAIN.split())


def test_help_and_version_are_printed_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr() == (f"ffreid {__version__}\n", "")
    assert exit_code("train --help") == 0
    assert "--dataset" in capsys.readouterr().out
    assert exit_code("") == 2
    out, err = capsys.readouterr()
    assert "train" in out
    assert err == "error: no command\nhint: see ffreid --help\n"


def test_ground_truth_labels_give_exact_poses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    copy = tmp_path / "copy.json"
    command = f"{EVAL} --root {data} --output {tmp_path} --test-gt --pictures 1 --json {copy} {TOY}"
    assert exit_code(command) == 0
    folder = tmp_path / "toy-pose" / "default" / "test-gt"
    results = json.loads((folder / "results.json").read_text())
    assert json.loads(copy.read_text()) == results
    assert results["frames"] == 2
    assert results["weights"] == "none: ground truth labels and offsets"
    assert results["results"]["pooled"]["ADD-S_auc"] > 95
    assert "ADD-S AUC" in capsys.readouterr().out
    assert len(list((folder / "pictures").glob("*.png"))) == 1
    poses = json.loads((folder / "poses.json").read_text())["poses"]
    assert {pose["frame"] for pose in poses} == {"data/0048/000001", "data/0048/000002"}
