"""Whole runs through the command line: what they write, resume, and share between processes."""

import json
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

from ffreid import runner
from ffreid.cli import main
from ffreid.engine.checkpoints import io
from ffreid.pose import build, sources
from ffreid.recipes import compose
from tests.makers import toy_folder
from tests.pose.unsaved import no_save, run_unsaved
from tests.states import differences, without_clocks, without_times

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES, TEST_FRAMES, HEIGHT, WIDTH = 4, 3, 64, 96
SETTINGS = (
    f"DATA.WORKERS 0 DATA.TOY.TRAIN {FRAMES} DATA.TOY.TEST {TEST_FRAMES} "
    f"DATA.TOY.HEIGHT {HEIGHT} DATA.TOY.WIDTH {WIDTH} "
    "TRAIN.BATCH 2 TRAIN.VALIDATE_FRAMES 1 TRAIN.LOG_EVERY 1"
)
STEPS = 4
LAST = "last.pth"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FFREID_DATA", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the toy data; checkpoints are large, so it is gone afterwards."""
    folder = tmp_path_factory.mktemp("runs")
    toy_folder(
        folder,
        frames=FRAMES,
        test_frames=TEST_FRAMES,
        synthetic=0,
        height=HEIGHT,
        width=WIDTH,
    )
    yield folder
    shutil.rmtree(folder)


def line(place: Path, command: str, tag: str, more: str = "") -> str:
    """A command line on the toy data of `place`, its run in ``place/toy-pose/TAG``."""
    root, output = shlex.quote(str(place / "toy")), shlex.quote(str(place))
    flags = f"--dataset toy-pose --root {root} --output {output} --tag {tag}"
    return f"{command} {flags} {more} {SETTINGS}"


def ended(words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(words))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def in_two_processes(*words: str) -> None:
    """Run ``python -m WORDS`` as two processes, as a user does."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [sys.executable, *launch, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def metrics(folder: Path) -> list[dict[str, float]]:
    """Rows without what differs from run to run."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return without_times(rows)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """The folder of an uninterrupted run, evaluated at its end."""
    assert ended(line(place, "train", "whole", f"TRAIN.STEPS {STEPS}")) == 0
    return place / "toy-pose" / "whole"


def test_a_run_says_what_it_was(trained: Path) -> None:
    with (trained / "config.yaml").open() as file:
        cfg = CfgNode.load_cfg(file)
    assert (cfg.DATASET, cfg.TAG, cfg.TRAIN.STEPS, cfg.TRAIN.BATCH) == ("toy-pose", "whole", 4, 2)
    facts = read(trained / "run.json")
    assert (facts["seed"], facts["processes"]) == (0, 1)
    assert facts["versions"]["torch"]


def test_a_run_logs_every_loss(trained: Path) -> None:
    rows = metrics(trained)
    steps = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    # Two steps an epoch; the rate rises for two steps and lags one behind.
    assert [row["epoch"] for row in steps] == [0, 0, 1, 1]
    assert [row["lr"] for row in steps] == pytest.approx([1e-5, 1e-5, 5.05e-4, 1e-3])
    for row in rows:
        kind = "train" if "train/loss" in row else "validation"
        terms = [row[f"{kind}/{name}"] for name in ("segmentation", "keypoints", "centre")]
        assert row[f"{kind}/loss"] == pytest.approx(sum(terms), rel=1e-12)
        assert min(terms) > 0
        assert 0 <= row[f"{kind}/accuracy"] <= 1
    assert [row["step"] for row in rows if "validation/loss" in row] == [1, 2, 3, 4]


def test_a_run_keeps_its_last_and_its_best_state(trained: Path) -> None:
    losses = {
        row["step"]: row["validation/loss"] for row in metrics(trained) if "validation/loss" in row
    }
    last, best = io.load(trained / LAST), io.load(trained / "best.pth")
    assert last["step"] == last["total"] == STEPS
    assert best["step"] == min(losses, key=losses.__getitem__)
    assert last["best"] == best["best"] == min(losses.values())
    assert last["config"] == (trained / "config.yaml").read_text()
    assert "optimisers" not in best
    assert len(best["parts"]["net"]) == len(last["parts"]["net"]) > 600
    names = (
        "config.yaml run.json state.json metrics.jsonl last.pth best.pth results.json poses.json"
    )
    assert sorted(path.name for path in trained.iterdir()) == sorted(names.split())


def test_a_run_ends_with_the_poses_of_its_best_state(trained: Path) -> None:
    results = read(trained / "results.json")
    assert results["weights"] == str(trained / "best.pth")
    assert results["step"] == io.load(trained / "best.pth")["step"]
    assert results["frames"] == TEST_FRAMES
    assert results["skipped_frames"] == {}
    objects = results["results"]["classes"]
    assert results["results"]["pooled"]["instances"] == sum(
        row["instances"] for row in objects.values()
    )
    for pose in read(trained / "poses.json")["poses"]:
        assert pose["class"] in objects
        rotation = torch.tensor(pose["camera_from_object"], dtype=torch.float64)[:, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def resumed(place: Path) -> Path:
    """The folder of the same run, interrupted in its third step and resumed."""
    save = io.save

    def save_twice(path: Path, state: Any) -> io.Saved:
        if state["step"] > 2:
            raise KeyboardInterrupt
        return save(path, state)

    folder = place / "toy-pose" / "resumed"
    more = f"TRAIN.STEPS {STEPS} TRAIN.EVAL_POSES false"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "save", save_twice)
        assert ended(line(place, "train", "resumed", more)) == 130
    assert io.load(folder / LAST)["step"] == 2
    assert metrics(folder)[-1]["step"] == 3
    torch.manual_seed(99)
    more = f"--resume {shlex.quote(str(folder / LAST))} {more}"
    assert ended(line(place, "train", "resumed", more)) == 0
    return folder


@pytest.mark.parametrize("name", [LAST, "best.pth"])
def test_a_resumed_run_ends_bitwise_as_an_uninterrupted_one(
    trained: Path, resumed: Path, name: str
) -> None:
    one, other = io.load(trained / name), io.load(resumed / name)
    assert differences(without_clocks(one), without_clocks(other)) == []


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(trained: Path, resumed: Path) -> None:
    assert metrics(resumed) == metrics(trained)


def test_a_run_of_other_length_is_not_resumed(
    place: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = f"--resume {shlex.quote(str(trained / LAST))} TRAIN.STEPS {STEPS + 1}"
    assert ended(line(place, "train", "longer", resume)) == 2
    told = capsys.readouterr().err
    assert f"was trained with TRAIN.STEPS {STEPS}, this run has {STEPS + 1}" in told


def test_a_stopped_run_can_be_resumed(place: Path, trained: Path) -> None:
    words = shlex.split(f"{SETTINGS} TRAIN.STEPS {STEPS} TRAIN.EVAL_POSES false")
    cfg = compose("toy-pose", root=place / "toy", output=place, tag="stopped", pairs=words)
    folder = runner.train(cfg, stop_at=1)
    assert io.load(folder / LAST)["step"] == 1
    assert [row["step"] for row in metrics(folder)][-1] == 1


EXACT = "TRAIN.STEPS 3 TRAIN.PRECISION fp64 TRAIN.EVAL_POSES false MODEL.DROPOUT false"
# Batch norm of two processes, and of the one process that must do the same.
# Frozen ones are compared in tests/test_same_curve.py.
NORMS = {"sync": "own"}


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, list[dict[str, float]]]:
    """Metrics of one process in float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "save", no_save)
        for kind in NORMS.values():
            more = f"{EXACT} TRAIN.BATCH_NORM {kind}"
            run_unsaved(line(place, "train", f"one-{kind}", more))
    return {kind: metrics(place / "toy-pose" / f"one-{kind}") for kind in NORMS.values()}


@pytest.fixture(scope="module")
def together(place: Path) -> dict[str, list[dict[str, float]]]:
    """Metrics of two processes in float64; they also evaluate the true labels."""
    lines = [
        line(place, "train", f"two-{kind}", f"{EXACT} TRAIN.BATCH_NORM {kind}") for kind in NORMS
    ]
    lines.append(line(place, "eval", "gt-two", "--test-gt"))
    in_two_processes("tests.pose.unsaved", *lines)
    return {kind: metrics(place / "toy-pose" / f"two-{kind}") for kind in NORMS}


@pytest.mark.parametrize("kind", NORMS)
def test_two_processes_train_to_the_losses_of_one(
    alone: dict[str, list[dict[str, float]]],
    together: dict[str, list[dict[str, float]]],
    kind: str,
) -> None:
    assert [row["step"] for row in together[kind]] == [1, 1, 2, 2, 3, 3]
    for two, one in zip(together[kind], alone[NORMS[kind]], strict=True):
        # The gradient's length shows the last updates' rounding, multiplied by all batch norms.
        assert two == pytest.approx(one, rel=1e-5)


def test_two_processes_train_and_evaluate_and_one_finds_the_same(place: Path) -> None:
    few = "VOTE.MAX_POINTS 50"
    words = line(place, "train", "two", f"TRAIN.STEPS 1 {few}")
    in_two_processes("ffreid", *shlex.split(words))
    folder = place / "toy-pose" / "two"
    two, poses = read(folder / "results.json"), read(folder / "poses.json")
    assert two["provenance"]["processes"] == 2
    assert two["frames"] == TEST_FRAMES
    assert ended(line(place, "eval", "two", few)) == 0
    assert same(read(folder / "results.json")["results"], two["results"])
    found = read(folder / "poses.json")
    assert [(p["frame"], p["class"], p["votes"]) for p in found["poses"]] == [
        (p["frame"], p["class"], p["votes"]) for p in poses["poses"]
    ]


@pytest.mark.usefixtures("together")
def test_two_processes_vote_with_true_labels_as_one(place: Path) -> None:
    assert ended(line(place, "eval", "gt-one", "--test-gt")) == 0
    paths = [place / "toy-pose" / name / "test-gt/results.json" for name in ("gt-one", "gt-two")]
    one, two = map(read, paths)
    assert (one["provenance"]["processes"], two["provenance"]["processes"]) == (1, 2)
    assert one["frames"] == two["frames"] == TEST_FRAMES
    assert one["results"]["pooled"]["instances"] > TEST_FRAMES
    assert same(one["results"], two["results"])


def same(one: Any, other: Any) -> bool:
    """Whether two tables are equal but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return bool(one == pytest.approx(other, rel=1e-5, abs=1e-9))
    return bool(one == other)


@pytest.mark.parametrize("wanted", [True, False])
def test_dropout_can_be_left_out(place: Path, wanted: bool) -> None:
    words = shlex.split(f"{SETTINGS} MODEL.DROPOUT {wanted}")
    cfg = compose("toy-pose", root=place / "toy", pairs=words)
    task = build.build_task(cfg, sources.open_source(cfg), torch.device("cpu"))
    found = [module.p for module in task.modules() if isinstance(module, nn.Dropout2d)]
    assert found
    assert all((p > 0) == wanted for p in found)
