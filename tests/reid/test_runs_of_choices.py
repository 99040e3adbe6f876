"""Runs with other losses, damaged images and selection, with a tiny network for speed."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ffreid import runner
from ffreid.engine import train_step as train_step_module
from ffreid.engine import trainer as trainer_module
from ffreid.engine.checkpoints import io
from ffreid.engine.train_step import TrainStep
from ffreid.recipes import compose
from ffreid.reid import validation
from tests.commands import exit_code, interrupted_after, metrics, mistake, quoted, read
from tests.reid import dataset_trees
from tests.reid.command_line import HEIGHT, IMAGES, SETTINGS, WIDTH, line, make_toy_data, use_tiny
from tests.states import differences, without_clocks

MEMORY = "LOSS.CAL calwithmemory LOSS.MOMENTUM 0.2"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, generated once."""
    return make_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def place(toy_data: Path, tmp_path: Path) -> Path:
    """An output folder with a copy of the toy data."""
    shutil.copytree(toy_data.parents[2], tmp_path / "data")
    return tmp_path


def damage(place: Path, part: str, count: int = 1) -> list[str]:
    """Truncate images of a part; return their names."""
    paths = sorted((place / "data").rglob(f"{part}/*.png"))
    assert len(paths) == IMAGES[part]
    for path in paths[:count]:
        path.write_bytes(path.read_bytes()[:60])
    return [path.name for path in paths[:count]]


def test_the_baseline_trains_without_clothes(place: Path) -> None:
    assert exit_code(line("train", place, "none", "LOSS.CAL none")) == 0
    folder = place / "toy-reid" / "none"
    for row in metrics(folder, "train/"):
        assert row["train/loss"] == row["train/classification"]
        assert not {"train/clothes", "train/adversarial", "train/clothes_accuracy"} & set(row)
    assert "AdvLoss" not in (folder / "log_train.log").read_text()
    last = io.load(folder / "last.pth")
    assert last["clothes_classifier_state_dict"] == {}
    assert list(last["parts"]) == list(last["optimisers"]) == ["net"]


def test_cal_with_memory_fills_its_memory(place: Path) -> None:
    assert exit_code(line("train", place, "memory", MEMORY)) == 0
    folder = place / "toy-reid" / "memory"
    for row in metrics(folder, "train/"):
        assert "train/clothes" not in row
        assert (row["train/adversarial"] > 0) == (row["epoch"] >= 1)
        sums = row["train/classification"] + row["train/adversarial"]
        assert row["train/loss"] == pytest.approx(sums, rel=1e-9)
    lines = (folder / "log_train.log").read_text().splitlines()
    assert "AdvLoss:0.0000 " in lines[0]
    assert "CloLoss" not in lines[0] + lines[1]
    last = io.load(folder / "last.pth")
    memory = last["clothes_classifier_state_dict"]
    assert list(memory) == ["feature_memory", "label_memory"]
    assert differences(dict(memory), dict(last["parts"]["memory"])) == []
    assert (memory["label_memory"] >= 0).any()


@pytest.mark.parametrize("more", ["", MEMORY, "LOSS.CAL none TRAIN.OPTIMIZER.NAME adamw"])
def test_a_run_resumed_within_an_epoch_is_bitwise_the_uninterrupted_one(
    place: Path, more: str
) -> None:
    more += " TRAIN.MAX_EPOCH 3 TRAIN.SAVE_EVERY 5"
    assert exit_code(line("train", place, "full", more)) == 0
    with interrupted_after(5):
        assert exit_code(line("train", place, "again", more)) == 130
    again = place / "toy-reid" / "again"
    assert io.load(again / "last.pth")["step"] == 5
    assert exit_code(line("train", place, "again", f"--resume {again / 'last.pth'} {more}")) == 0
    for name in ("best.pth", "last.pth"):
        one, other = (io.load(place / "toy-reid" / tag / name) for tag in ("full", "again"))
        assert differences(without_clocks(one), without_clocks(other)) == []
    assert metrics(again) == metrics(place / "toy-reid" / "full")


@pytest.fixture
def half(place: Path) -> Path:
    """The last checkpoint of a run stopped after its first epoch, with a perfect rank-1."""
    cfg = compose("toy-reid", root=place / "data", output=place, tag="run", pairs=SETTINGS.split())
    last = runner.train(cfg, stop_at=2) / "last.pth"
    state = io.load(last)
    assert (state["step"], state["total"]) == (2, 4)
    best = {"best": {"name": "CC rank-1", "value": 1.0, "step": 2}}
    io.save(last, state | {"best": 1.0, "bests": best})
    return last


def test_a_checkpoint_without_metrics_is_resumed(place: Path, half: Path) -> None:
    state = io.load(half)
    del state["measured"]
    io.save(half, state)
    assert exit_code(line("train", place, "run", f"--resume {half}")) == 0
    last = io.load(half)
    assert last["step"] == 4
    assert last["rank1"] == last["measured"]["rank1"]


def test_auto_passes_over_a_state_that_does_not_fit_the_network(
    place: Path, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = io.load(half)
    io.save(half.with_name("epoch-0001.pth"), state)
    state["optimisers"]["net"]["state"][0]["exp_avg"] = torch.zeros(7)
    io.save(half, state)
    problem = f"cannot resume from {half}: optimisers.net: exp_avg of parameter 0"
    error, _ = mistake(capsys, line("train", place, "other", f"--resume {half}"))
    assert error.startswith(problem)
    assert exit_code(line("train", place, "run", "--resume auto")) == 0
    notes = capsys.readouterr().err
    assert f"note: skipped: {problem}" in notes
    assert f"resuming from {half.with_name('epoch-0001.pth')}, step 2" in notes


@pytest.mark.parametrize("entry", ["step", "config", "classes", "parts"])
def test_a_state_with_garbage_is_not_evaluated(
    place: Path, half: Path, capsys: pytest.CaptureFixture[str], entry: str
) -> None:
    io.save(half, io.load(half) | {entry: [1]})
    error, _ = mistake(capsys, line("eval", place, "run", f"--checkpoint {half}"))
    assert error.startswith(f"cannot read checkpoint {half}: {entry} is a list, not ")


def test_a_complete_run_without_its_results_says_how_to_get_them(
    place: Path, half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    io.save(half, io.load(half) | {"step": 4})
    half.with_name("validation-best.json").unlink(missing_ok=True)
    error, hint = mistake(capsys, line("train", place, "run", f"--resume {half}"))
    assert error.startswith("training is complete, but ")
    assert "ffreid eval --checkpoint" in hint


@pytest.mark.parametrize(
    ("more", "best"),
    [
        ("", 2),
        ("TEST.EVAL_STEP 2", 2),
        ("TEST.SELECT_METRIC map", 4),
        ("TEST.SELECT_PROTOCOL SC", 4),
    ],
)
def test_after_resuming_only_values_of_the_same_metric_are_compared(
    place: Path, half: Path, more: str, best: int
) -> None:
    assert exit_code(line("train", place, "run", f"--resume {half} {more}")) == 0
    states = {name: io.load(half.with_name(f"{name}.pth")) for name in ("best", "last")}
    assert {name: state["step"] for name, state in states.items()} == {"best": best, "last": 4}
    result = read(half.with_name("validation-last.json"))
    (scores,) = (s for s in result["scores"] if result["selected_by"].startswith(f"{s['name']} "))
    value = scores["mean_average_precision"] if "map" in more else scores["cmc"]["1"]
    assert states["last"]["best"] == (1.0 if best == 2 else value)


def test_the_time_of_an_epoch_excludes_validation(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slow(work: Any, seconds: float) -> Any:
        def act(*args: Any, **kwargs: Any) -> Any:
            clock[0] += seconds
            return work(*args, **kwargs)

        return act

    for module in (train_step_module, trainer_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(validation, "validate", slow(validation.validate, 1000.0))
    monkeypatch.setattr(TrainStep, "step", slow(TrainStep.step, 3.0))
    assert exit_code(line("train", place, "timed")) == 0
    lines = (place / "toy-reid/timed/log_train.log").read_text().splitlines()
    assert [text.split()[:3] for text in lines] == [
        [f"Epoch{epoch}", "Time:6.0s", "Data:0.0s"] for epoch in (1, 2)
    ]


@pytest.mark.parametrize("every", [1, 100])
def test_damaged_training_images_are_replaced_and_counted(
    place: Path, every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(place, "train", IMAGES["train"] // 2 - 1)
    more = f"DATA.SKIP_BROKEN true TRAIN.LOG_EVERY {every}"
    assert exit_code(line("train", place, "skips", more)) == 0
    rows = metrics(place / "toy-reid" / "skips", "train/")
    assert all(row["train/classification"] > 0 for row in rows)
    # At least the first and the last step are logged; each epoch is reported.
    assert len(rows) == (4 if every == 1 else 2)
    reported = [
        int(text.split()[3])
        for text in capsys.readouterr().err.splitlines()
        if "files could not be read and were replaced by others" in text
    ]
    assert len(reported) == 2
    counted = sum(row["train/broken"] for row in rows)
    assert 0 < counted <= sum(reported)
    assert every > 1 or counted == sum(reported)


def test_a_damaged_image_is_skipped_in_the_evaluation_with_a_note(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(line("train", place, "run", "TRAIN.STEPS 1")) == 0
    (query,), (item,) = damage(place, "query"), damage(place, "test")
    assert exit_code(line("eval", place, "run", "DATA.SKIP_BROKEN true")) == 0
    results = read(place / "toy-reid/run/results.json")
    assert (results["queries"], results["gallery"]) == (11, 11)
    assert sorted(results["broken"]) == [f"query/{query}", f"test/{item}"]
    printed = capsys.readouterr().err
    assert (
        "note: 1 of 12 queries and 1 of 12 gallery items are skipped, as they cannot be read: "
        in printed
    )
    error, hint = mistake(capsys, line("eval", place, "run"))
    assert query in error
    assert "DATA.SKIP_BROKEN True" in hint


def test_missing_listed_images_are_skipped_if_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, train, item = "folder", "a/1.jpg", "d/1.jpg"
    dataset_trees.fill(dataset_trees.build(dataset, tmp_path / "data"), HEIGHT, WIDTH)
    for name in (train, item):
        (path,) = (tmp_path / "data").rglob(name)
        path.unlink()
    more = "TRAIN.BN_GROUPS 1"
    error, hint = mistake(capsys, line("train", tmp_path, "strict", more, dataset))
    assert train in error
    assert hint.endswith("set DATA.SKIP_BROKEN True to skip them")
    more += " DATA.SKIP_BROKEN true"
    assert exit_code(line("train", tmp_path, "skips", more, dataset)) == 0
    printed = capsys.readouterr().err
    assert f"note: missing: 2 files: {train}, {item}\n" in printed
    assert "files could not be read and were replaced by others" in printed
    assert exit_code(line("eval", tmp_path, "skips", more, dataset)) == 0
    assert list(read(tmp_path / dataset / "skips/results.json")["broken"]) == [item]


def test_saved_features_give_the_same_results(place: Path) -> None:
    assert exit_code(line("train", place, "run", "TRAIN.STEPS 1")) == 0
    run, file = place / "toy-reid" / "run", place / "features.npz"
    (run / "last.pth").rename(place / "mine.pth")
    (run / "best.pth").unlink()
    more = f"--checkpoint {quoted(place / 'mine.pth')} --save-features {quoted(file)}"
    assert exit_code(line("eval", place, "run", more)) == 0
    first = read(run / "results.json")
    (place / "mine.pth").unlink()
    shutil.rmtree(place / "data")
    copy = place / "copy.json"
    command = f"eval --dataset toy-reid --features {quoted(file)} --output {quoted(place)}"
    assert exit_code(f"{command} --tag features --json {quoted(copy)}") == 0
    again = read(copy)
    assert again["results"] == first["results"]
    assert again["weights"] == first["weights"] == str(place / "mine.pth")


def test_selection_on_the_validation_split_evaluates_best_and_last_on_the_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset_trees.fill(dataset_trees.build("prcc", tmp_path / "data"), HEIGHT, WIDTH)
    more = "TEST.SELECT_ON val TRAIN.BN_GROUPS 1"
    assert exit_code(line("train", tmp_path, "val", more, "prcc")) == 0
    folder = tmp_path / "prcc" / "val"
    result = read(folder / "validation-best.json")
    assert (result["selected_on"], result["selected_by"]) == ("val", "CC rank-1")
    # Three queries of B and C in the validation split, four in the test split.
    assert sum(scores["n_valid"] for scores in result["scores"]) == 3
    for name, into in (("best", folder), ("last", folder / "last")):
        results = read(into / "results.json")
        assert results["weights"] == str(folder / f"{name}.pth")
        assert (results["queries"], results["gallery"]) == (4, 4)
        assert results["selected_on"] == "val"
    printed = capsys.readouterr()
    assert "the best checkpoint, selected on the validation split:" in printed.err
    assert "the last checkpoint, selected on the validation split:" in printed.err
    assert "selected on the test set" not in printed.err
    assert printed.out.count("CC, single-shot") == 2
