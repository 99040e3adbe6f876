"""Invalid data and files give an error and a hint, with exit code 2."""

import shutil
from pathlib import Path

import pytest
import torch

from ffreid.engine.checkpoints import io
from tests.commands import exit_code, mistake, quoted, read
from tests.reid import dataset_trees
from tests.reid.command_line import IMAGES, line, make_toy_data, use_tiny


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch)


@pytest.mark.parametrize("command", ["train", "data"])
def test_an_identity_in_train_and_query_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    dataset_trees.build("ltcc", tmp_path / "data")
    dataset_trees.write(tmp_path / "data", {}, ["LTCC_ReID/query/005_1_c1_1.png"])
    root = quoted(tmp_path / "data")
    error, hint = mistake(capsys, f"{command} --dataset ltcc --root {root}")
    assert error == "in train and in query: 1 identity: 005"
    assert "LTCC_ReID again" in hint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy data and a run on two identities."""
    folder = tmp_path_factory.mktemp("trained")
    make_toy_data(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        assert exit_code(line("train", folder, "run", "TRAIN.STEPS 1")) == 0
    return folder


@pytest.fixture
def weights(trained: Path) -> Path:
    return trained / "toy-reid/run/last.pth"


MORE_IDENTITIES = "DATA.TOY.IDENTITIES 4"


def test_a_checkpoint_with_other_classes_is_evaluated(trained: Path, weights: Path) -> None:
    more = f"--checkpoint {quoted(weights)} {MORE_IDENTITIES}"
    assert exit_code(line("eval", trained, "others", more)) == 0
    # Two more training identities; the test has as many images with other labels.
    assert read(trained / "toy-reid/others/results.json")["queries"] == IMAGES["query"]


def test_training_on_other_classes_is_not_resumed(
    capsys: pytest.CaptureFixture[str], trained: Path, weights: Path
) -> None:
    more = f"--resume {quoted(weights)} {MORE_IDENTITIES} TRAIN.STEPS 1"
    error, hint = mistake(capsys, line("train", trained, "others-too", more))
    message = "was trained on other classes than those of toy-reid (6 there, 12 here)"
    assert f"{weights} {message}" in error
    assert "ffreid eval --checkpoint" in hint


def test_queries_without_a_match_are_counted_in_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: Path
) -> None:
    lines = ["path,identity,camera,clothes,split", "a.png,anna,door,red,train"]
    lines += ["b.png,ben,door,blue,query", "c.png,carl,yard,grey,gallery"]
    data = tmp_path / "data"
    data.mkdir()
    (data / "records.csv").write_text("\n".join(lines) + "\n")
    image = next((weights.parents[2] / "data").rglob("query/*.png"))
    for name in "abc":
        shutil.copy(image, data / f"{name}.png")
    more = f"--checkpoint {quoted(weights)}"
    assert exit_code(line("eval", tmp_path, "none", more, "folder")) == 0
    assert capsys.readouterr().out.count("none: 1 without a match") == 3
    results = read(tmp_path / "folder/none/results.json")["results"]
    assert [(row["n_valid"], row["rank1"]) for row in results.values()] == [(0, None)] * 3


def test_without_a_match_under_the_selecting_protocol_the_last_state_is_the_best(
    capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "data", tmp_path / "data")
    for part in ("query", "test"):
        for path in (tmp_path / "data").rglob(f"{part}/*_2_c*.png"):
            path.unlink()
    assert exit_code(line("train", tmp_path, "same")) == 0
    printed = capsys.readouterr()
    assert printed.err.count("no query has a match under CC") == 2
    assert f"none: {IMAGES['query'] // 2} without a match" in printed.out
    folder = tmp_path / "toy-reid" / "same"
    assert io.load(folder / "best.pth")["step"] == 4
    assert read(folder / "validation-best.json")["step"] == 4


def test_a_diverged_checkpoint_is_an_error(
    capsys: pytest.CaptureFixture[str], trained: Path, weights: Path, tmp_path: Path
) -> None:
    state = io.load(weights)
    state["model_state_dict"]["last.weight"].fill_(torch.nan)
    io.save(tmp_path / "diverged.pth", state)
    more = f"--checkpoint {quoted(tmp_path / 'diverged.pth')}"
    error, hint = mistake(capsys, line("eval", trained, "diverged", more))
    assert f"{IMAGES['query']} of {IMAGES['query']} query features are NaN" in error
    assert "use a checkpoint that has not diverged" in hint


def test_diverging_training_is_an_error(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    more = "TRAIN.OPTIMIZER.NAME sgd TRAIN.OPTIMIZER.LR 1e30 TRAIN.MAX_EPOCH 3"
    error, hint = mistake(capsys, line("train", trained, "diverges", more))
    assert "NaN or infinite" in error
    assert "TRAIN.OPTIMIZER.LR" in hint


def test_notes_are_printed_only_if_training_starts(
    capsys: pytest.CaptureFixture[str], trained: Path
) -> None:
    more = "LOSS.CLOTHES_CLA_LOSS crossentropy TRAIN.STEPS 1 MODEL.BACKBONE"
    capsys.readouterr()
    assert exit_code(line("train", trained, "refused", f"{more} gone.pth")) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: MODEL.BACKBONE: no file gone.pth")
    assert hint.startswith("hint: ")
    assert exit_code(line("train", trained, "noted", f"{more} random")) == 0
    note = "note: LOSS.CLOTHES_CLA_LOSS crossentropy does not scale the cosines"
    assert capsys.readouterr().err.count(note) == 1
