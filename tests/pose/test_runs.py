"""Complete runs through the command line: their files, resuming, and two processes."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.engine.checkpoints import io
from ffreid.pose import build, sources
from ffreid.recipes import compose
from tests.commands import exit_code, interrupted_after, metrics, quoted, read
from tests.makers import toy_folder
from tests.pose.command_lines import no_save, run_line
from tests.states import differences, without_clocks

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES, TEST_FRAMES, HEIGHT, WIDTH = 4, 3, 64, 96
SETTINGS = (
    f"DATA.WORKERS 0 DATA.TOY.TRAIN {FRAMES} DATA.TOY.TEST {TEST_FRAMES} "
    f"DATA.TOY.HEIGHT {HEIGHT} DATA.TOY.WIDTH {WIDTH} "
    "TRAIN.BATCH 2 TRAIN.VALIDATE_FRAMES 1 TRAIN.LOG_EVERY 1 VOTE.MAX_POINTS 50 "
    "TRAIN.PRECISION fp32 TRAIN.SCHEDULE triangular DATA.AUGMENT true MODEL.DROPOUT true"
)
STEPS = 4
LAST = "last.pth"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with toy data, removed at the end: checkpoints are large."""
    folder = tmp_path_factory.mktemp("runs")
    sizes = {"frames": FRAMES, "test_frames": TEST_FRAMES, "height": HEIGHT, "width": WIDTH}
    toy_folder(folder, synthetic=0, **sizes)
    yield folder
    shutil.rmtree(folder)


def line(workspace: Path, command: str, tag: str, more: str = "") -> str:
    """A command line on the toy data of `workspace` with its run in ``workspace/toy-pose/TAG``."""
    root = quoted(workspace / "toy")
    flags = f"--dataset toy-pose --root {root} --output {quoted(workspace)} --tag {tag}"
    return f"{command} {flags} {SETTINGS} {more}"


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Path:
    """The folder of an uninterrupted run, evaluated at its end."""
    assert exit_code(line(workspace, "train", "complete", f"TRAIN.STEPS {STEPS}")) == 0
    return workspace / "toy-pose" / "complete"


def test_a_run_has_its_configuration_its_provenance_and_every_loss(trained: Path) -> None:
    cfg = CfgNode.load_cfg((trained / "config.yaml").read_text())
    settings = (cfg.DATASET, cfg.TAG, cfg.TRAIN.STEPS, cfg.TRAIN.BATCH)
    assert settings == ("toy-pose", "complete", STEPS, 2)
    facts = read(trained / "run.json")
    assert (facts["seed"], facts["processes"]) == (0, 1)
    assert facts["versions"]["torch"]
    rows = metrics(trained)
    steps = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    # Two steps per epoch; the rate rises for two steps and lags one behind.
    assert [row["epoch"] for row in steps] == [0, 0, 1, 1]
    assert [row["lr"] for row in steps] == pytest.approx([1e-5, 1e-5, 5.05e-4, 1e-3])
    for row in rows:
        kind = "train" if "train/loss" in row else "validation"
        terms = [row[f"{kind}/{name}"] for name in ("segmentation", "keypoints", "centre")]
        assert row[f"{kind}/loss"] == pytest.approx(sum(terms), rel=1e-12)
        assert min(terms) > 0
        assert 0 <= row[f"{kind}/accuracy"] <= 1
    assert [row["step"] for row in rows if "validation/loss" in row] == [1, 2, 3, 4]


def test_a_run_saves_its_last_and_its_best_state(trained: Path) -> None:
    key = "validation/loss"
    losses = {row["step"]: row[key] for row in metrics(trained) if key in row}
    last, best = io.load(trained / LAST), io.load(trained / "best.pth")
    assert last["step"] == last["total"] == STEPS
    assert best["step"] == min(losses, key=losses.__getitem__)
    assert last["best"] == best["best"] == min(losses.values())
    assert last["config"] == (trained / "config.yaml").read_text()
    assert "optimisers" not in best
    assert len(best["parts"]["net"]) == len(last["parts"]["net"]) > 600
    files = (
        "best.pth config.yaml last.pth metrics.jsonl poses.json results.json run.json state.json"
    )
    assert {path.name for path in trained.iterdir()} == {".lock", *files.split()}


def test_a_run_ends_with_the_poses_of_its_best_state(trained: Path) -> None:
    results = read(trained / "results.json")
    assert results["weights"] == str(trained / "best.pth")
    assert results["step"] == io.load(trained / "best.pth")["step"]
    assert (results["frames"], results["skipped_frames"]) == (TEST_FRAMES, {})
    assert (results["trained_on"], results["left_out"]["frames"]) == ("toy-pose", 0)
    scored = sum(row["instances"] - row["missed"] for row in results["results"]["classes"].values())
    absent = results["left_out"]["poses of objects that are not in the frame"]
    assert len(read(trained / "poses.json")["poses"]) == scored + absent
    objects = results["results"]["classes"]
    instances = sum(row["instances"] for row in objects.values())
    assert results["results"]["pooled"]["instances"] == instances
    for pose in read(trained / "poses.json")["poses"]:
        assert pose["class"] in objects
        rotation = torch.tensor(pose["camera_from_object"], dtype=torch.float64)[:, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), rtol=0, atol=1e-4)


def test_a_resumed_run_is_bitwise_the_uninterrupted_one(workspace: Path, trained: Path) -> None:
    folder = workspace / "toy-pose" / "resumed"
    more = f"TRAIN.STEPS {STEPS} TRAIN.EVAL_POSES false"
    with interrupted_after(2):
        assert exit_code(line(workspace, "train", "resumed", more)) == 130
    assert io.load(folder / LAST)["step"] == 2
    assert metrics(folder)[-1]["step"] == 3
    torch.manual_seed(99)
    resume = f"--resume {quoted(folder / LAST)}"
    assert exit_code(line(workspace, "train", "resumed", f"{more} {resume}")) == 0
    assert metrics(folder) == metrics(trained)
    for name in (LAST, "best.pth"):
        one, other = io.load(trained / name), io.load(folder / name)
        assert differences(without_clocks(one), without_clocks(other)) == []


EXACT = "TRAIN.STEPS 2 TRAIN.PRECISION fp64 MODEL.DROPOUT false"


@pytest.fixture(scope="module")
def two(workspace: Path) -> Path:
    """Two processes train in float64 with synchronised batch norm and evaluate the result.

    They also evaluate the ground truth labels, in ``gt-two``. Frozen batch norm is compared in
    tests/test_same_curve.py.
    """
    lines = line(workspace, "train", "two", EXACT), line(workspace, "eval", "gt-two", "--test-gt")
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2 -m tests.pose.command_lines"
    done = subprocess.run(
        [sys.executable, *launch.split(), *lines],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return workspace / "toy-pose" / "two"


def test_two_processes_train_to_the_losses_of_one(
    workspace: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "save", no_save)
    run_line(
        line(workspace, "train", "one", f"{EXACT} TRAIN.EVAL_POSES false TRAIN.BATCH_NORM own")
    )
    rows = metrics(two)
    assert [row["step"] for row in rows] == [1, 1, 2, 2]
    for ours, expected in zip(rows, metrics(workspace / "toy-pose" / "one"), strict=True):
        # The gradient norm has the rounding of the last updates, amplified by all batch norms.
        assert ours == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("is_gt", [False, True])
def test_two_processes_evaluate_as_one(workspace: Path, two: Path, is_gt: bool) -> None:
    folder, command = two, line(workspace, "eval", "two", EXACT)
    if is_gt:
        folder = workspace / "toy-pose/gt-two/test-gt"
        command = line(workspace, "eval", "gt-two", "--test-gt")
    expected, expected_poses = read(folder / "results.json"), read(folder / "poses.json")
    assert exit_code(command) == 0
    results, poses = read(folder / "results.json"), read(folder / "poses.json")
    assert [each["provenance"]["processes"] for each in (expected, results)] == [2, 1]
    assert results["frames"] == expected["frames"] == TEST_FRAMES
    assert results["results"]["pooled"]["instances"] > TEST_FRAMES
    assert nearly_equal(results["results"], expected["results"])
    keys = ("frame", "class", "votes")
    rows, expected_rows = (
        [[pose[key] for key in keys] for pose in each["poses"]] for each in (poses, expected_poses)
    )
    assert rows == expected_rows


def nearly_equal(one: Any, other: Any) -> bool:
    """Whether two tables are equal up to rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(nearly_equal(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return bool(one == pytest.approx(other, rel=1e-5, abs=1e-9))
    return bool(one == other)


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_can_be_disabled(workspace: Path, dropout: bool) -> None:
    pairs = shlex.split(f"{SETTINGS} MODEL.DROPOUT {dropout}")
    cfg = compose("toy-pose", root=workspace / "toy", pairs=pairs)
    task = build.build_task(cfg, sources.open_source(cfg), torch.device("cpu"))
    probabilities = [module.p for module in task.modules() if isinstance(module, nn.Dropout2d)]
    assert probabilities
    assert all((p > 0) == dropout for p in probabilities)
