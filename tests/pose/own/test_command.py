"""``ffreid predict`` as people use it: every way of naming frames, every output, every mistake."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine.dataset_files import read_image
from ffreid.pose.calibration import Calibration
from ffreid.pose.predictions import read_bop_csv
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame
from tests.commands import exit_code, mistake, quoted, read
from tests.pose.own.makers import Oracle, camera_words, own_frame, toy_model, write_pair

FRAME = own_frame()
CAMERA = f"--intrinsics {camera_words(FRAME)}"
NAMES = {toy_model().objects.name(number) for number in FRAME.class_ids.tolist()}


@pytest.fixture(autouse=True)
def best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint whose model knows the labels of `FRAME`."""
    monkeypatch.setattr("ffreid.api.load_model", lambda *_, **__: toy_model())
    monkeypatch.setattr("ffreid.pose.predictor.network_votes", Oracle(FRAME))
    path = tmp_path / "best.pth"
    path.touch()
    yield path


def predict(best: Path, arguments: str) -> int:
    return exit_code(f"predict --checkpoint {quoted(best)} {arguments}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_pair_gives_the_true_poses_in_every_output(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colour, out = write_pair(tmp_path / "Bücher und mehr"), tmp_path / "out"
    assert predict(best, f"{quoted(colour)} {CAMERA} --out {out} --grid --json {out}.json") == 0
    printed, said = capsys.readouterr()
    assert all(name in printed for name in NAMES)
    assert "raw score" in printed
    assert said.count("millimetres") == 1
    (row,) = lines(out / "poses.jsonl")
    assert {pose["object"] for pose in row["poses"]} == NAMES
    for pose in row["poses"]:
        truth = FRAME.camera_from_object[FRAME.class_ids.tolist().index(pose["class_id"])]
        np.testing.assert_allclose(pose["camera_from_object"], truth, atol=2e-3)
        assert 0 < pose["raw_score"] <= 1
        assert pose["probability"] is None
    assert {"read", "prepare", "network", "vote", "score"} == set(row["seconds"])
    assert row["depth_scale"] == 1000
    np.testing.assert_allclose(row["intrinsics"], FRAME.intrinsics)
    assert read(Path(f"{out}.json"))["frames"][0]["poses"] == row["poses"]
    (poses,) = read_bop_csv(out / "bop.csv", toy_model().objects).values()
    assert {class_id for class_id, _ in poses} == set(FRAME.class_ids.tolist())
    (picture,) = (out / "overlays").iterdir()
    assert read_image(picture).shape[1] == 640
    assert read_image(out / "grid.png").shape[1] == 320


def test_a_broken_frame_does_not_stop_the_rest(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b\x1b[31m", "c"):
        write_pair(tmp_path / "frames", name)
    (tmp_path / "frames/b\x1b[31m-depth.png").write_text("nothing")
    assert predict(best, f"{tmp_path}/frames {CAMERA} --out {tmp_path}/out") == 1
    printed, said = capsys.readouterr()
    assert printed.count("poses,") == 2
    assert "1 of 3 frames have no result" in said
    assert "\x1b[31m" not in said + printed
    rows = lines(tmp_path / "out/poses.jsonl")
    assert ["error" in row for row in rows] == [False, True, False]
    assert len(list((tmp_path / "out/overlays").iterdir())) == 2


def test_paths_on_standard_input_are_answered_as_they_come(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colour = write_pair(tmp_path / "frames")
    printed = []

    def lines() -> Iterator[str]:
        for line in (f"{colour}\n", "\n", "none.png\n", f"{colour}\n"):
            yield line
            printed.append(capsys.readouterr().out)

    monkeypatch.setattr("sys.stdin", lines())
    assert predict(best, f"- {CAMERA}") == 1
    assert ["poses," in text for text in printed] == [True, False, False, True]


def test_a_frame_is_written_before_its_table_is_read(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ffreid predict … --out FOLDER | head`` ends at once, but what was shown is written."""
    colour = write_pair(tmp_path / "frames")

    def closed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ffreid.report.show_table", closed)
    assert predict(best, f"{colour} {CAMERA} --out {tmp_path}/out") == 130
    assert len(lines(tmp_path / "out/poses.jsonl")) == 1


def test_a_list_and_several_inputs(best: Path, tmp_path: Path) -> None:
    one, two = (write_pair(tmp_path / name, "x") for name in ("1", "2"))
    (tmp_path / "list.txt").write_text("1/x-color.png\n")
    line = f"{tmp_path}/list.txt {two} {tmp_path}/1 {CAMERA} --out {tmp_path}/out"
    assert predict(best, line) == 0
    rows = lines(tmp_path / "out/poses.jsonl")
    assert [row["color"] for row in rows] == [str(one), str(two), str(one)]
    assert len({(row["scene_id"], row["im_id"]) for row in rows}) == 3
    assert len(list((tmp_path / "out/overlays").iterdir())) == 3


def test_names_that_differ_only_in_case_have_pictures_of_their_own(
    best: Path, tmp_path: Path
) -> None:
    for name in ("a", "A"):
        write_pair(tmp_path / "frames", name)
    assert predict(best, f"{tmp_path}/frames {CAMERA} --out {tmp_path}/out") == 0
    names = [path.name.lower() for path in (tmp_path / "out/overlays").iterdir()]
    assert len(set(names)) == 2


def test_min_score_leaves_poses_out(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colour = write_pair(tmp_path / "frames")
    assert predict(best, f"{colour} {CAMERA} --min-score 1 --json {tmp_path}/a.json") == 0
    (row,) = read(tmp_path / "a.json")["frames"]
    assert row["poses"] == []
    assert row["left_out"] == len(NAMES)
    (shown,) = capsys.readouterr().out.splitlines()  # no table without rows
    assert f": 0 poses ({len(NAMES)} with a lower score left out)" in shown


@pytest.mark.parametrize(
    ("option", "size", "said"),
    [
        ("", (96, 128), "note: frames of 192 x 256 are resized to 96 x 128"),
        ("--size own", (192, 256), ""),
        ("--size 144x1000", (144, 192), ""),
    ],
)
def test_frames_of_another_size_are_resized(
    option: str,
    size: tuple[int, int],
    said: str,
    best: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = toy_frame("a", toy_objects(), height=192, width=256, generator=np.random.default_rng(0))
    monkeypatch.setattr("ffreid.pose.predictor.network_votes", Oracle(frame))
    colour = write_pair(tmp_path / "frames", frame=frame)
    camera = f"--intrinsics {camera_words(frame)}"
    assert predict(best, f"{colour} {camera} {option} --json {tmp_path}/a.json") == 0
    (row,) = read(tmp_path / "a.json")["frames"]
    assert tuple(row["network_size"]) == size
    assert row["size"] == [192, 256]
    text = capsys.readouterr().err
    assert (said in text) if said else ("resized" not in text)
    errors = [
        np.abs(pose["camera_from_object"] - frame.camera_from_object[index]).max()
        for pose in row["poses"]
        for index in [frame.class_ids.tolist().index(pose["class_id"])]
    ]
    assert len(errors) == len(frame.class_ids)
    assert np.median(errors) < 0.01


def test_results_are_not_overwritten_silently(best: Path, tmp_path: Path, capsys: Any) -> None:
    colour = write_pair(tmp_path / "frames")
    line = f"{colour} {CAMERA} --out {tmp_path}/out"
    assert predict(best, line) == 0
    before = (tmp_path / "out/poses.jsonl").read_text()
    error, hint = mistake(capsys, f"predict --checkpoint {best} {line}")
    assert "already contains" in error
    assert "--force" in hint
    assert (tmp_path / "out/poses.jsonl").read_text() == before
    assert predict(best, f"{line} --force") == 0
    # A mistake leaves no results that the next call would refuse.
    wrong = line.replace("/out", "/new")
    assert mistake(capsys, f"predict --checkpoint {best} {wrong} --depth-scale 1")
    assert predict(best, wrong) == 0


MISTAKES = {
    "none.png {camera}": ("no file or folder none.png", "a folder"),
    "{frames}/empty {camera}": ("no frames in", "rgb/"),
    "{frames}/a-color.png": ("no intrinsics", "--intrinsics"),
    "{frames}/a-color.png --intrinsics 1 1 900 900": ("outside the image", "CX about 64"),
    "{frames}/a-color.png {camera} --depth none.png": ("no depth image", "existing file"),
    "{frames}/a-color.png {camera} --depth {frames}/x.png": ("cannot read", "PNG"),
    "{frames} {camera} --depth {frames}/x.png": ("--depth is of one", "remove --depth"),
    "{frames}/a-color.png {camera} --depth-scale 0": ("--depth-scale is 0", "1000"),
    "{frames}/a-color.png {camera} --depth-scale 1": (
        "median depth is 6",
        "--depth-scale 1000",
    ),
    "{frames}/a-color.png {camera} --depth-scale 80": ("0 pixels have depth", "median is 8."),
    "{frames}/a-color.png {camera} --size 9": ("--size is '9'", "480x640"),
    "{frames}/a-color.png {camera} --refine ransac": ("unknown refinement", "icp"),
    "{frames}/a-color.png {camera} --grid": ("--grid needs", "--out"),
    "{frames}/a-color.png --camera {frames}/x.png": ("has no intrinsics", "JSON"),
    "{frames}/a-color.png {camera} --camera {frames}/x.png": ("cannot be combined", "remove"),
    "{camera}": ("no frames given", "folders"),
    "{frames} {camera} VOTE.MAX_POINTS": ("'VOTE.MAX_POINTS' has no value", "pairs"),
    "VOTE.MAX_POINTS 20 {frames} {camera}": ("' has no value", "pairs"),
    "{frames}/a-color.png {camera} --min-score 2": ("--min-score is 2", "0 to 1"),
    "{frames}/a-color.png {camera} --frames": ("no such option: --frames", "--force"),
    "{frames}/a-color.png - {camera}": ("- cannot be combined", "- alone"),
    "{frames}/a-color.png {camera} --out {frames}/x.png/out": ("cannot write", "--out"),
    "{frames}/a-color.png {camera} --out {frames}/x.png": ("cannot write", "--out"),
}


def test_nothing_on_standard_input_is_a_mistake(
    best: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", iter(["\n"]))
    error, _ = mistake(capsys, f"predict --checkpoint {best} - {CAMERA}")
    assert error == "no paths on standard input"


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_has_two_lines(
    arguments: str, best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    write_pair(frames)
    (frames / "x.png").write_text("no image")
    (frames / "empty").mkdir()
    line = arguments.format(frames=frames, camera=CAMERA)
    error, hint = mistake(capsys, f"predict --checkpoint {best} {line}")
    message, mend = MISTAKES[arguments]
    assert message in error
    assert mend in hint


def test_refined_poses_have_residuals_before_and_after(
    best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("small_gicp")
    monkeypatch.setattr("ffreid.pose.predictor.network_votes", Oracle(FRAME, noise=0.02))
    colour = write_pair(tmp_path / "frames")
    assert predict(best, f"{colour} {CAMERA} --refine icp --json {tmp_path}/a.json") == 0
    (row,) = read(tmp_path / "a.json")["frames"]
    done = [pose["refinement"] for pose in row["poses"] if "refinement" in pose]
    assert done
    for pose in done:
        assert pose["accepted"] == (pose["residual_after_m"] < pose["residual_before_m"])
    assert any(pose["accepted"] for pose in done)


def test_without_small_gicp_refining_says_what_to_install(
    best: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "small_gicp", None)
    colour = write_pair(tmp_path / "frames")
    line = f"predict --checkpoint {best} {colour} {CAMERA} --refine icp"
    assert "ffreid[icp]" in mistake(capsys, line)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("frames --intrinsics 1 1 2 2", "--intrinsics has no effect for a re-ID checkpoint"),
        ("frames", "frames is neither a setting nor an option"),
        ("", "no --query"),
    ],
)
def test_a_re_id_checkpoint_takes_no_frames(
    arguments: str,
    message: str,
    best: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ffreid.api.load_model", lambda *_, **__: None)
    assert mistake(capsys, f"predict --checkpoint {best} {arguments}")[0] == message


def test_options_of_re_id_are_refused(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error, _ = mistake(capsys, f"predict --checkpoint {best} frames --query a.png")
    assert error == "--query has no effect for a pose checkpoint"


def test_the_python_api_gives_what_the_command_line_gives(best: Path, tmp_path: Path) -> None:
    colour = write_pair(tmp_path / "frames")
    assert predict(best, f"{colour} {CAMERA} --json {tmp_path}/a.json") == 0
    rows = read(tmp_path / "a.json")["frames"][0]["poses"]
    numbers = tuple(map(float, camera_words(FRAME).split()))
    assert len(numbers) == 4
    (result,) = toy_model().predict_files(colour.parent, intrinsics=numbers)
    assert [(pose.name, pose.score) for pose in result.poses] == [
        (row["object"], row["raw_score"]) for row in rows
    ]
    np.testing.assert_array_equal(
        [pose.camera_from_object for pose in result.poses],
        [row["camera_from_object"] for row in rows],
    )
    (broken,) = toy_model().predict_files(colour.parent)
    assert broken.error is not None
    assert "no intrinsics" in broken.error.message


def test_without_all_meshes_scores_are_not_probabilities(
    best: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = toy_model()
    model.calibration = Calibration(np.array([0.0, 1]), np.array([0.25, 0.25]), {})
    monkeypatch.setattr("ffreid.api.load_model", lambda *_, **__: model)
    line = f"{write_pair(tmp_path / 'frames')} {CAMERA} --json {tmp_path}/a.json"
    assert predict(best, line) == 0
    assert {row["probability"] for row in read(tmp_path / "a.json")["frames"][0]["poses"]} == {0.25}
    printed, said = capsys.readouterr()
    assert "probability" in printed
    assert "raw" not in said
    first = int(FRAME.class_ids[0])
    model.meshes = {c: points for c, points in model.meshes.items() if c != first}
    assert predict(best, line) == 0
    assert {row["probability"] for row in read(tmp_path / "a.json")["frames"][0]["poses"]} == {None}
    printed, said = capsys.readouterr()
    assert "raw score" in printed
    assert f"no meshes of {model.objects.name(first)}:" in said
