"""Poses that others computed: how they are read, and what is refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.objects import ycb_objects
from ffreid.pose.predictions import gt_from_folder, read_predictions, score_predictions
from ffreid.pose.resources import resource
from ffreid.pose.scoring import diameters, summarise
from tests.pose.realdata import real_folder

OBJECTS = ycb_objects()
MUG = "025_mug"
QUARTER = "0.70710678 0 0 0.70710678"
TURNED = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
HEADER = "scene_id,im_id,obj_id,score,R,t,time"
R_ROW = "0 -1 0 1 0 0 0 0 1"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    file = tmp_path / "frames.txt"
    file.write_text("0048/000001\n0048/000036\n0049/000001\n")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    poses = tmp_path / "poses"
    poses.mkdir()
    (poses / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0.1 0.2 0.9\n0 0 0 0 0 0 0\n")
    (poses / f"0050_{MUG}.txt").write_text("of a scene that is not asked for\n")
    return poses


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_rows_are_the_frames_of_the_scene_in_order(folder: Path, frames: Path) -> None:
    found = read_predictions(folder, OBJECTS, frames)
    assert list(found) == ["0048/000001"]
    ((class_id, pose),) = found["0048/000001"]
    assert OBJECTS.name(class_id) == MUG
    np.testing.assert_allclose(pose[:, :3], TURNED, atol=1e-7)
    np.testing.assert_allclose(pose[:, 3], [0.1, 0.2, 0.9])


def test_quaternions_of_any_length_turn_alike(folder: Path, frames: Path) -> None:
    (folder / f"0048_{MUG}.txt").write_text("3 0 0 3 0 0 1\n-0.2 0 0 -0.2 0 0 1\n")
    found = read_predictions(folder, OBJECTS, frames)
    for frame in ("0048/000001", "0048/000036"):
        np.testing.assert_allclose(found[frame][0][1][:, :3], TURNED, atol=1e-12)


def test_truth_has_a_frame_each_and_the_objects_keypoints_in_place(
    folder: Path, frames: Path
) -> None:
    first, second, third = gt_from_folder(folder, frames, OBJECTS)
    assert [t.index for t in (first, second, third)] == [0, 1, 2]
    assert (len(first.class_ids), len(second.class_ids), len(third.class_ids)) == (1, 0, 0)
    keypoints = OBJECTS.keypoints[first.class_ids[0] - 1]
    expected = keypoints @ np.array(TURNED).T + [0.1, 0.2, 0.9]
    np.testing.assert_allclose(first.keypoints_camera[0], expected, atol=1e-6)
    assert second.keypoints_camera.shape == (0, 8, 3)


def test_perfect_poses_have_no_error_and_missing_ones_are_missed(
    folder: Path, frames: Path
) -> None:
    (folder / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0 0 1\n{QUARTER} 0.1 0 1\n")
    gts = gt_from_folder(folder, frames, OBJECTS)
    (folder / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0 0 1\n0 0 0 0 0 0 0\n")
    predictions = read_predictions(folder, OBJECTS, frames)
    steps: list[tuple[int, int]] = []
    mesh = {int(gts[0].class_ids[0]): np.random.default_rng(0).normal(size=(20, 3)) * 0.05}
    exact, missed = score_predictions(
        gts, predictions, OBJECTS, mesh, progress=lambda done, total: steps.append((done, total))
    )
    assert (exact.detected, missed.detected) == (True, False)
    assert (exact.add, exact.adds, exact.keypoint_error) == pytest.approx((0, 0, 0), abs=1e-6)
    assert missed.add > 0.5
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_frames_match_whatever_folder_the_truth_names(folder: Path, frames: Path) -> None:
    gts = [
        dataclasses.replace(gt, name=f"data/{gt.name}")
        for gt in gt_from_folder(folder, frames, OBJECTS)
    ]
    predictions = read_predictions(folder, OBJECTS, frames)
    mesh = {int(gts[0].class_ids[0]): np.eye(3)}
    assert score_predictions(gts, predictions, OBJECTS, mesh)[0].detected


def test_no_common_frame_is_refused(folder: Path, frames: Path) -> None:
    gts = gt_from_folder(folder, frames, OBJECTS)
    with pytest.raises(UserError, match="0077/000001"):
        score_predictions(gts, {"0077/000001": []}, OBJECTS, {})


def test_a_missing_mesh_is_refused(folder: Path, frames: Path) -> None:
    gts = gt_from_folder(folder, frames, OBJECTS)
    predictions = read_predictions(folder, OBJECTS, frames)
    with pytest.raises(UserError, match=MUG):
        score_predictions(gts, predictions, OBJECTS, {})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 0 0 0 0 0 nan", "line 2: NaN"),
        ("1 0 0 0 0 0", "line 2: 6 numbers"),
        ("1 0 0 0 0 0 x", "line 2: could not convert"),
        ("0 0 0 0 0 0 1", "line 2: the quaternion is zero"),
        ("1 0 0 0 30 20 865", "line 2: the object is 866 m away"),
    ],
)
def test_a_row_that_is_no_pose_is_refused_by_file_and_row(
    folder: Path, frames: Path, row: str, message: str
) -> None:
    (folder / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0 0 1\n{row}\n")
    with pytest.raises(UserError, match=f"0048_{MUG}.txt, {message}"):
        read_predictions(folder, OBJECTS, frames)


def _misspell(folder: Path) -> None:
    (folder / "0048_025_mugg.txt").write_text("")


def _shorten(folder: Path) -> None:
    (folder / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0 0 1\n")


def _empty(folder: Path) -> None:
    (folder / f"0048_{MUG}.txt").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_misspell, "unknown object '025_mugg'"),
        (_shorten, "1 lines for 2 frames of scene 0048"),
        (_empty, "has no <scene>_<object>.txt of the scenes 0048, 0049"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    folder: Path, frames: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message):
        read_predictions(folder, OBJECTS, frames)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "lists no frames"), ("0048\n", "not a frame"), ("1/2\n1/2\n", "line 2: '1/2' is listed")],
)
def test_a_list_of_frames_that_is_none_is_refused(
    folder: Path, frames: Path, text: str, message: str
) -> None:
    frames.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(folder, OBJECTS, frames)


def test_text_poses_need_a_list_of_frames(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_predictions(folder, OBJECTS, None)
    assert "--frames" in caught.value.hint


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv"])
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, frames: Path, name: str) -> None:
    with pytest.raises(UserError, match="nowhere"):
        read_predictions(tmp_path / name, OBJECTS, frames)


def test_bop_poses_become_metres_in_the_original_frame(results: Path) -> None:
    mug = OBJECTS.names.index(MUG) + 1
    original = np.array([0.1, 0.2, 0.9])
    offset = np.array(resource("published")["bop_ycbv_offsets_mm"][MUG])
    shift = " ".join(str(v) for v in 1000 * original - np.array(TURNED) @ offset)
    results.write_text(f"{HEADER}\n48,36,{mug},0.5,{R_ROW},{shift},-1\n")
    found = read_predictions(results, OBJECTS, None)
    ((class_id, pose),) = found["0048/000036"]
    assert class_id == mug
    np.testing.assert_allclose(pose, np.column_stack([TURNED, original]), atol=1e-9)


def test_of_several_bop_poses_the_best_scored_counts(results: Path) -> None:
    rows = [f"48,36,14,{score},{R_ROW},{score * 1000} 0 900,-1" for score in (0.2, 0.9, 0.5)]
    results.write_text("\n".join([HEADER, *rows]))
    ((_, pose),) = read_predictions(results, OBJECTS, None)["0048/000036"]
    assert pose[0, 3] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"48,36,14,1,{R_ROW},0 0,-1", "R has 9 numbers and t has 2"),
        ("48,36,14,1,1 0 0,0 0 900,-1", "R has 3 numbers and t has 3"),
        (f"48,36,99,1,{R_ROW},0 0 900,-1", "unknown object number 99"),
        (f"48,36,14,1,{R_ROW},0 0 nan,-1", "NaN"),
        ("48,36,14,1,1 0 0 0 1 0 0 0 2,0 0 900,-1", "R is not a rotation"),
        ("48,36,14,1,1 0 0 0 1 0 0 0 -1,0 0 900,-1", "R is not a rotation"),
        (f"48,36,mug,1,{R_ROW},0 0 900,-1", "invalid literal"),
        ("48,36,14", "row 2"),
        (f"48,36,14,1,{R_ROW},0 0 0.9,-1", "0.9 mm"),
    ],
)
def test_a_bop_row_that_is_no_pose_is_refused(results: Path, row: str, message: str) -> None:
    results.write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(UserError, match=message):
        read_predictions(results, OBJECTS, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene_id,im_id,obj_id,score,R,time\n", "no column t"),
        (HEADER, "has no poses"),
        ("", "no column scene_id"),
    ],
)
def test_a_bop_file_without_its_columns_or_rows_is_refused(
    results: Path, text: str, message: str
) -> None:
    results.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(results, OBJECTS, None)


def test_posecnns_published_poses_score_as_an_independent_evaluation_says() -> None:
    root = real_folder("ycbv")
    expected = json.loads((root / "expected_posecnn_0048_0053.json").read_text())
    frames = root / "keyframe_0048_0053.txt"
    mesh = {
        class_id: np.loadtxt(root / "models" / OBJECTS.name(class_id) / "points.xyz")
        for class_id in OBJECTS.class_ids
    }
    gts = gt_from_folder(root / "poses/ground_truth", frames, OBJECTS)
    predictions = read_predictions(root / "poses/posecnn_rss2018", OBJECTS, frames)

    scores = score_predictions(gts, predictions, OBJECTS, mesh)

    summary = summarise(scores, OBJECTS, diameters(OBJECTS, mesh))
    pooled = summary["pooled"]
    assert (pooled["instances"], pooled["missed"]) == (expected["instances"], expected["missing"])
    assert pooled["ADD_auc"] == pytest.approx(expected["add_auc_pooled"], abs=0.001)
    assert pooled["ADD-S_auc"] == pytest.approx(expected["adds_auc_pooled"], abs=0.001)
    keys = "instances", "ADD_auc", "ADD-S_auc"
    found = {n: [row[k] for k in keys] for n, row in summary["classes"].items()}
    assert found.keys() == expected["per_class"].keys()
    for name, row in expected["per_class"].items():
        assert found[name] == pytest.approx(row, abs=0.01)
