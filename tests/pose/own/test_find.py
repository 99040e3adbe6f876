"""Frames are found in every usual layout, and each colour image has its own depth."""

import json
import os
from pathlib import Path

import pytest

from ffreid.errors import UserError
from ffreid.pose.own.find import find, of_line

LAYOUTS: dict[str, dict[str, str]] = {
    "side by side": {"a-color.png": "a-depth.png", "A-color.jpg": "A-depth.png"},
    "underscores": {"0001_rgb.png": "0001_depth.npy"},
    "word first": {"color_7.jpg": "depth_7.tiff"},
    "points": {"frame-000001.color.jpg": "frame-000001.depth.png"},
    "rgb and depth": {"rgb/1.png": "depth/1.png", "rgb/2.jpg": "depth/2.exr"},
    "color and depth": {"color/a b.png": "depth/a b.png"},
    "named in folders": {"color/frame-1.color.jpg": "depth/frame-1.depth.png"},
    "LineMOD": {"data/01/rgb/0001.png": "data/01/depth/0001.png"},
    "scenes": {"1/rgb/1.png": "1/depth/1.png", "2/rgb/1.png": "2/depth/1.png"},
    "YCB-Video": {"0048/000001-color.png": "0048/000001-depth.png"},
    "unicode": {"Bücher-color.png": "Bücher-depth.png"},
}


def make(folder: Path, files: dict[str, str]) -> None:
    for path in (folder / name for pair in files.items() for name in pair):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_found(name: str, tmp_path: Path) -> None:
    make(tmp_path, LAYOUTS[name])
    frames = find(tmp_path)
    found = {
        str(frame.colour.relative_to(tmp_path)): str(frame.depth.relative_to(tmp_path))
        for frame in frames
    }
    assert found == LAYOUTS[name]
    assert len({frame.name for frame in frames}) == len(frames)
    for colour, depth in LAYOUTS[name].items():
        (alone,) = find(tmp_path / colour)
        assert alone.depth.samefile(tmp_path / depth)


def test_tum_lists_are_associated_by_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rgb.txt").write_text("# t file\n1.000 rgb/a.png\n1.035 rgb/b.png\n9.0 rgb/c.png\n")
    (tmp_path / "depth.txt").write_text("1.015 depth/x.png\n1.040 depth/y.png\n1.06 depth/z.png\n")
    frames = find(tmp_path)
    pairs = [(frame.colour.name, frame.depth.name) for frame in frames]
    assert pairs == [("a.png", "x.png"), ("b.png", "y.png")]
    assert {frame.depth_scale for frame in frames} == {5000.0}
    assert "within 0.02 s: 1" in capsys.readouterr().err


def test_a_bop_scene_has_its_numbers(tmp_path: Path) -> None:
    make(tmp_path, {"000048/rgb/000012.png": "000048/depth/000012.png"})
    (tmp_path / "000048/scene_camera.json").write_text(json.dumps({}))
    (frame,) = find(tmp_path)
    assert (frame.folder.name, frame.number) == ("000048", 12)


def test_lists_name_images_pairs_and_missing_files(tmp_path: Path) -> None:
    make(tmp_path, {"a b-color.png": "a b-depth.png", "x.png": "y.png"})
    (tmp_path / "list.txt").write_text(
        "a b-color.png\nx.png y.png\nx.png\ty.png\nnone.png\nx.png\n"
    )
    frames = find(tmp_path / "list.txt")
    assert [frame.depth.name for frame in frames[:3]] == ["a b-depth.png", "y.png", "y.png"]
    assert [frame.problem is not None for frame in frames] == [False, False, False, True, True]


def test_depth_without_colour_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, {"a-color.png": "a-depth.png", "b-depth.png": "c-depth.png"})
    assert len(find(tmp_path)) == 1
    assert "without a colour image: 2" in capsys.readouterr().err


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    make(tmp_path, {"alone.png": "b-color.png", "t/rgb/1.png": "t/depth/2.png"})
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "missing": "no file or folder",
        "empty": "no frames in",
        "alone.png": "no depth image of",
        "b-color.png": "no depth image of",
        "t": "has a partner of its name",
        "pipe": "is a pipe",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            find(tmp_path / name)
        (frame,) = of_line(name, tmp_path)
        assert frame.problem is not None


def test_ten_thousand_files_are_found_quickly(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"{number}-color.png").touch()
        (tmp_path / f"{number}-depth.png").touch()
    assert len(find(tmp_path)) == 5000
