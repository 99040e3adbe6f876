"""``ffreid data --show``: frames as the network gets them, as images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ffreid
from ffreid.engine.colours import class_colour
from ffreid.pose.toy.dataset import toy_object_models
from tests.commands import exit_code, mistake, quoted
from tests.makers import linemod_folder, toy_folder

TOY = "DATA.TOY.TRAIN 4 DATA.TOY.TEST 2 DATA.TOY.SYNTHETIC 2 MODEL.POINTS 1024 DATA.AUGMENT true"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_folder(tmp_path_factory.mktemp("toy"))


def test_frames_of_each_list_are_drawn_in_turn(toy: Path, tmp_path: Path) -> None:
    line = (
        f"data --dataset toy-pose --root {quoted(toy)} --show 4 --output {quoted(tmp_path)} {TOY}"
    )
    assert exit_code(line) == 0
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    kinds = [name.split("-")[1] for name in names]
    assert kinds == ["train", "rendered", "test", "train"]
    heights = [np.asarray(Image.open(tmp_path / name)).shape[0] for name in names]
    assert heights[0] == heights[1] == heights[3] > 1.8 * heights[2]  # augmented versions


def test_labels_are_drawn_in_the_colours_of_the_legend(toy: Path, tmp_path: Path) -> None:
    settings = dict(zip(*[iter(TOY.split())] * 2, strict=True)) | {"DATA.AUGMENT": "False"}
    (path,) = ffreid.draw_samples("toy-pose", tmp_path, 1, root=toy, settings=settings)
    image = np.asarray(Image.open(path))
    labels = image[:, image.shape[1] // 4 : image.shape[1] // 2]
    shown = {tuple(colour) for colour in labels.reshape(-1, 3).tolist()}
    known = {class_colour(i) for i in toy_object_models("toy-pose").class_ids}
    assert 1 < len(shown & known) <= len(known)


def test_linemod_is_drawn_and_a_frame_without_depth_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = linemod_folder(tmp_path)
    depth = root / "data/01/depth/0003.png"
    Image.fromarray(np.asarray(Image.open(depth)) * 0).save(depth)
    line = f"data --dataset linemod --cls ape --root {quoted(root)} --show 9"
    assert exit_code(f"{line} --output {quoted(tmp_path / 'out')} MODEL.POINTS 1024") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert "note: data/01/0003 is not drawn: 0 pixels have depth" in capsys.readouterr().err


def test_a_folder_without_samples_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = mistake(capsys, "data --dataset toy-pose --output x")
    assert (error, hint) == ("--output has no effect without --show", "remove --output")


def test_samples_of_an_earlier_call_are_replaced(toy: Path, tmp_path: Path) -> None:
    settings = dict(zip(*[iter(TOY.split())] * 2, strict=True))
    shutil.copy(toy / "toy.json", tmp_path / "own.json")
    for count in (3, 1):
        ffreid.draw_samples("toy-pose", tmp_path, count, root=toy, settings=settings)
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert (tmp_path / "own.json").is_file()
