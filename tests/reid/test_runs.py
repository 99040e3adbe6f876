"""Complete runs of ResNet-50 through the command line: their files and evaluations."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from yacs.config import CfgNode

from ffreid.engine.checkpoints import io
from tests.commands import exit_code, metrics, quoted, read
from tests.pose.command_lines import no_save
from tests.reid.command_line import IMAGES, line, make_toy_data
from tests.states import differences

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 4
TERMS = ("loss", "classification", "pair", "clothes", "adversarial", "accuracy", "clothes_accuracy")
# As recorded from the original.
LOG_LINE = re.compile(
    r"Epoch\d+ Time:\d+\.\ds Data:\d+\.\ds ClaLoss:\d+\.\d{4} PairLoss:\d+\.\d{4} "
    r"CloLoss:\d+\.\d{4} AdvLoss:\d+\.\d{4} Acc:\d+\.\d\d% CloAcc:\d+\.\d\d% "
)
PROTOCOLS = ["general", "SC", "CC"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the toy data, removed at the end: checkpoints are large."""
    folder = tmp_path_factory.mktemp("runs")
    make_toy_data(folder / "data")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Path:
    """The folder of an uninterrupted run of two epochs."""
    assert exit_code(line("train", workspace, "full")) == 0
    return workspace / "toy-reid" / "full"


@pytest.fixture(scope="module")
def checkpoints(trained: Path) -> dict[str, Any]:
    """The checkpoints of `trained`."""
    return {name: io.load(trained / f"{name}.pth") for name in ("best", "last")}


def test_a_run_writes_all_its_files(trained: Path) -> None:
    expected = [
        ".lock",
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "log_train.log",
        "best.pth",
        "last.pth",
    ]
    expected += ["state.json", "validation-best.json", "validation-last.json"]
    assert sorted(path.name for path in trained.iterdir()) == sorted(expected)
    with (trained / "config.yaml").open() as file:
        cfg = CfgNode.load_cfg(file)
    assert (cfg.DATASET, cfg.TAG, cfg.DATA.TRAIN_BATCH) == ("toy-reid", "full", 4)
    facts = read(trained / "run.json")
    assert (facts["seed"], facts["processes"]) == (1, 1)


def test_a_run_logs_every_term_of_every_step(trained: Path) -> None:
    rows = metrics(trained, "train/")
    steps = [(row["step"], row["epoch"], row["lr"]) for row in rows]
    assert steps == [(step, (step - 1) // 2, 7e-4) for step in (1, 2, 3, 4)]
    for row in rows:
        assert {f"train/{name}" for name in (*TERMS, "broken")} < set(row)
        # Clothes and CAL losses are logged before they are used; the pairwise loss has weight 0.
        names = ("classification", "clothes", "adversarial")
        parts = [row[f"train/{name}"] for name in names[: 1 if row["epoch"] == 0 else 3]]
        assert row["train/loss"] == pytest.approx(sum(parts), rel=1e-9)
        assert row["train/clothes"] > 0
        assert row["train/adversarial"] > 0


def test_a_run_logs_every_protocol_after_every_epoch(trained: Path) -> None:
    rows = metrics(trained, "validation/")
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        for name in PROTOCOLS:
            assert 0 <= row[f"validation/{name} rank-1"] <= row[f"validation/{name} rank-20"] <= 1
            assert 0 < row[f"validation/{name} mAP"] <= 1


def test_the_log_has_the_lines_of_the_original(trained: Path) -> None:
    lines = (trained / "log_train.log").read_text().splitlines()
    assert [text.split()[0] for text in lines] == ["Epoch1", "Epoch2"]
    assert all(LOG_LINE.fullmatch(text) for text in lines)
    rows = metrics(trained, "train/")[2:]
    mean = sum(row["train/clothes"] for row in rows) / len(rows)
    assert f"CloLoss:{mean:.4f} " in lines[1]


def test_checkpoints_have_the_entries_of_the_original(
    trained: Path, checkpoints: dict[str, Any]
) -> None:
    last = checkpoints["last"]
    assert len(last["model_state_dict"]) > 300
    assert list(last["classifier_state_dict"]) == ["classifier.weight", "classifier.bias"]
    assert list(last["clothes_classifier_state_dict"]) == ["weight"]
    network = {"model": last["model_state_dict"], "classifier": last["classifier_state_dict"]}
    entries = {f"{part}.{key}": network[part][key] for part in network for key in network[part]}
    assert differences(entries, dict(last["parts"]["net"])) == []
    assert differences(last["clothes_classifier_state_dict"], last["parts"]["clothes"]) == []
    # The epoch just finished, from 0.
    assert last["epoch"] == 1
    assert last["rank1"] == metrics(trained, "validation/")[-1]["validation/CC rank-1"]
    assert type(last["rank1"]) is float


def test_the_best_state_is_of_the_best_evaluation(
    trained: Path, checkpoints: dict[str, Any]
) -> None:
    rank1 = {row["step"]: row["validation/CC rank-1"] for row in metrics(trained, "validation/")}
    best, last = checkpoints["best"], checkpoints["last"]
    assert best["step"] == max(rank1, key=rank1.__getitem__)
    assert best["best"] == last["best"] == best["rank1"] == max(rank1.values())
    assert last["step"] == last["total"] == STEPS
    assert "optimisers" not in best
    for name, state in checkpoints.items():
        facts = read(trained / f"validation-{name}.json")
        assert facts["step"] == state["step"]
        assert (facts["selected_on"], facts["selected_by"]) == ("test", "CC rank-1"), name
        assert [scores["name"] for scores in facts["scores"]] == PROTOCOLS


def test_evaluating_a_checkpoint_gives_the_results_of_training(
    workspace: Path, trained: Path
) -> None:
    more = f"--eval --resume {quoted(trained / 'last.pth')}"
    assert exit_code(line("train", workspace, "full", more)) == 0
    results = read(trained / "results.json")
    assert (results["weights"], results["step"]) == (str(trained / "last.pth"), STEPS)
    for scores in read(trained / "validation-last.json")["scores"]:
        row = results["results"][scores["name"]]
        assert row["rank1"] == scores["cmc"]["1"]
        assert row["mAP"] == pytest.approx(scores["mean_average_precision"], rel=1e-9)
        assert row["n_valid"] == scores["n_valid"] == IMAGES["query"]
    # The evaluation leaves the metrics of training.
    assert metrics(trained, "train/")[-1]["step"] == STEPS


def test_results_say_that_features_are_computed_in_bfloat16(workspace: Path, trained: Path) -> None:
    saved = workspace / "half.npz"
    more = f"--checkpoint {quoted(trained / 'last.pth')} --precision bf16 --save-features"
    assert exit_code(line("eval", workspace, "half", f"{more} {quoted(saved)}")) == 0
    results = [read(workspace / "toy-reid/half/results.json")]
    assert exit_code(line("eval", workspace, "half", f"--features {quoted(saved)}")) == 0
    results.append(read(workspace / "toy-reid/half/results.json"))
    assert results[0]["precision"] == "bfloat16"
    for result in results:
        assert "features are computed in bfloat16" in result["notes"]


def test_two_processes_train_as_one_with_two_groups(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With Adam, rounding decides the direction of the first step where a gradient is almost 0;
    # after larger steps, it decides the order of almost equal images.
    more = "TRAIN.STEPS 1 TRAIN.OPTIMIZER.NAME sgd TRAIN.OPTIMIZER.LR 1e-6 "
    more += "LOSS.PAIR_LOSS_WEIGHT 1.0"
    args = line("train", workspace, "two", more).split()
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [sys.executable, *launch, "ffreid", *args],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(io, "save", no_save)
    assert exit_code(line("train", workspace, "one", more)) == 0
    two, one = (metrics(workspace / "toy-reid" / name) for name in ("two", "one"))
    assert len(two) == len(one) == 2
    for expected, ours in zip(one, two, strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)
    assert read(workspace / "toy-reid/two/run.json")["processes"] == 2
