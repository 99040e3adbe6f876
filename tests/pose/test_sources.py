"""What ``data`` and ``eval --test-gt`` tell of a dataset, and meshes that only a part has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from ffreid.cli import main
from tests.makers import linemod_folder, toy_folder

TOY = "--dataset toy-pose DATA.TOY.TRAIN 4 DATA.TOY.TEST 2 DATA.TOY.SYNTHETIC 2"
EVAL = "eval --test-gt DATA.WORKERS 0 MODEL.POINTS 1024 VOTE.MAX_POINTS 8 --output"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "toy"))


def run(line: str, root: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> list[str]:
    """Run a command; return the notes, or the error."""
    with pytest.raises(SystemExit) as caught:
        main([*line.split(), "--root", str(root), "--json", str(root / "result.json")])
    assert caught.value.code == code
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("error: " if code else "note: ")]


def change_meta(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    for path in folder.rglob("*-meta.mat"):
        meta = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
        change(meta)
        savemat(path, meta)


def repeat(meta: dict[str, Any]) -> None:
    meta["cls_indexes"] = np.repeat(meta["cls_indexes"][:1], 2, axis=0)
    meta["poses"] = np.repeat(meta["poses"][..., :1], 2, axis=2)


def to_millimetres(meta: dict[str, Any]) -> None:
    meta["poses"][:, 3] *= 1000


def clear_labels(folder: Path) -> None:
    for path in folder.rglob("*-label.png"):
        Image.fromarray(np.asarray(Image.open(path)) * 0).save(path)


def train_also(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / "dataset_config/train_data_list.txt").open("a") as file:
            file.write(f"\n{name}\n")

    return change


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "sound": (lambda folder: None, []),
    "a test frame for training": (
        train_also("./data/0048/000001"),
        ["test frames that are training frames as well: 1 of 2, e.g. data/0048/000001"],
    ),
    "a training frame twice": (
        train_also("data/0000/000001"),
        ["training frames that are listed again, and so drawn more often: 1 of 7"],
    ),
    "poses in millimetres": (
        lambda folder: change_meta(folder, to_millimetres),
        ["labelled points of"],
    ),
    "labels empty": (clear_labels, ["have no labelled pixel"]),
    "objects repeated": (
        lambda folder: change_meta(folder, repeat),
        ["several objects of a class", "labelled pixels of objects without a pose"],
    ),
}


@pytest.mark.parametrize("command", ["data", EVAL])
@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_told_and_stored(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, change: str
) -> None:
    spoil, told = CHANGES[change]
    spoil(folder)
    line = f"{command} {folder}/runs {TOY}" if command == EVAL else f"{command} {TOY}"
    notes = run(line, folder, capsys)
    assert len(notes) == len(told)
    assert all(any(text in note for note in notes) for text in told)
    stored = json.loads((folder / "result.json").read_text())["notes"]
    assert sorted(f"note: {note}" for note in stored) == sorted(notes)


def test_an_evaluation_needs_no_training_list(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dataset_config/train_data_list.txt").unlink()
    assert not run(f"{EVAL} {folder}/runs {TOY}", folder, capsys)
    stored = json.loads((folder / "result.json").read_text())
    assert stored["data"].startswith("2 test frames; no list of train frames: ")


def test_data_counts_frames_that_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in folder.rglob("*-color.png"):
        path.write_bytes(b"")
    (note,) = run(f"data {TOY}", folder, capsys)
    assert note.startswith("note: frames are not checked: ")
    assert json.loads((folder / "result.json").read_text())["frames"]["test"] == 2


def test_only_the_meshes_of_objects_that_occur_are_needed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_meta(folder, repeat)
    change_meta(folder, lambda meta: meta.update(cls_indexes=np.array([[1], [3]])))
    for name in ("watering_can", "camera", "bottle"):
        shutil.rmtree(folder / "models" / name)
    run(f"{EVAL} {folder}/runs {TOY}", folder, capsys)
    (folder / "models/duck/points.xyz").unlink()
    (error,) = run(f"{EVAL} {folder}/runs {TOY}", folder, capsys, code=2)
    assert error.endswith("models/duck/points.xyz")


def test_a_linemod_mesh_is_needed_for_scores_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, line = linemod_folder(tmp_path), "--dataset linemod --cls ape"
    assert not run(f"data {line}", root, capsys)
    path = root / "models/obj_01.ply"
    path.write_text(path.read_text().replace("element vertex 1000", "element vertex 9999"))
    (note,) = run(f"data {line}", root, capsys)
    assert "obj_01.ply" in note
    path.unlink()
    assert not run(f"data {line}", root, capsys)
    (error,) = run(f"{EVAL} {root}/runs {line}", root, capsys, code=2)
    assert "obj_01.ply" in error
