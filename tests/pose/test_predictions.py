"""Reading and scoring poses of other methods."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.objects import ycb_objects
from ffreid.pose.predictions import Predictions, gt_from_folder, read_predictions, score_predictions
from ffreid.pose.resources import resource
from ffreid.pose.scoring import diameters, summarise
from tests.pose.realdata import real_folder

OBJECTS = ycb_objects()
MUG = "025_mug"
QUARTER = "0.70710678 0 0 0.70710678"
TURNED = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
PLACE = np.array([0.1, 0.2, 0.9])
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
    (poses / f"0050_{MUG}.txt").write_text("ignored: of another scene\n")
    return poses


def test_lines_are_the_frames_of_the_scene_in_order(folder: Path, frames: Path) -> None:
    poses = read_predictions(folder, OBJECTS, frames)
    assert list(poses) == ["0048/000001"]
    ((class_id, pose),) = poses["0048/000001"]
    assert OBJECTS.name(class_id) == MUG
    np.testing.assert_allclose(pose, np.column_stack([TURNED, PLACE]), atol=1e-7)
    gts = gt_from_folder(folder, frames, OBJECTS)
    assert [(gt.index, len(gt.class_ids)) for gt in gts] == [(0, 1), (1, 0), (2, 0)]
    keypoints = OBJECTS.keypoints[class_id - 1] @ np.array(TURNED).T + PLACE
    np.testing.assert_allclose(gts[0].keypoints_camera[0], keypoints, atol=1e-6)
    # Quaternions of any length and sign are normalised.
    (folder / f"0048_{MUG}.txt").write_text("3 0 0 3 0 0 1\n-0.2 0 0 -0.2 0 0 1\n")
    for frame in list(read_predictions(folder, OBJECTS, frames).values()):
        np.testing.assert_allclose(frame[0][1][:, :3], TURNED, atol=1e-12)


def test_files_may_come_from_other_systems(folder: Path, frames: Path) -> None:
    expected = read_predictions(folder, OBJECTS, frames)
    frames.write_text(frames.read_text().replace("/", "\\"), "utf-8-sig", newline="\r\n")
    poses = folder / f"0048_{MUG}.txt"
    poses.write_text(poses.read_text(), "utf-8-sig", newline="\r\n")
    assert str(read_predictions(folder, OBJECTS, frames)) == str(expected)


def test_exact_poses_have_no_error_and_absent_ones_are_missed(folder: Path, frames: Path) -> None:
    (folder / f"0048_{MUG}.txt").write_text(f"{QUARTER} 0 0 1\n{QUARTER} 0.1 0 1\n")
    gts = gt_from_folder(folder, frames, OBJECTS)
    gts = [dataclasses.replace(gt, name=f"data/{gt.name}") for gt in gts]
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


def test_scores_need_a_common_frame(folder: Path, frames: Path) -> None:
    gts = gt_from_folder(folder, frames, OBJECTS)
    with pytest.raises(UserError, match=r"no frame .*0077/000001"):
        score_predictions(gts, {"0077/000001": []}, OBJECTS, {})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (f"0048_{MUG}", f"{QUARTER} 0 0 1\n1 0 0 0 0 0 nan\n", f"0048_{MUG}.txt, line 2: NaN"),
        (f"0048_{MUG}", f"{QUARTER} 0 0 1\n1 0 0 0 0 0\n", "line 2: 6 numbers"),
        (f"0048_{MUG}", f"{QUARTER} 0 0 1\n1 0 0 0 0 0 x\n", "line 2: could not convert"),
        (f"0048_{MUG}", f"{QUARTER} 0 0 1\n0 0 0 0 0 0 1\n", "line 2: the quaternion is zero"),
        (f"0048_{MUG}", "1 0 0 0 30 20 865\n", "line 1: the object is 866 m away"),
        (f"0048_{MUG}", f"{QUARTER} 0 0 1\n", "1 lines for 2 frames of scene 0048"),
        (f"0048_{MUG}", None, "has no <scene>_<object>.txt of the scenes 0048, 0049"),
        ("0048_025_mugg", "", "unknown object '025_mugg'"),
        ("../frames", "", "frames.txt is empty"),
        ("../frames", "0048\n", "not a frame"),
        ("../frames", "1/2\n1/2\n", "'1/2' is listed twice"),
        ("../frames", None, "no file .*frames.txt"),
    ],
)
def test_invalid_text_files_are_errors(
    folder: Path, frames: Path, name: str, text: str | None, message: str
) -> None:
    path = folder / f"{name}.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(folder, OBJECTS, frames)


def test_a_missing_path_or_list_of_frames_is_an_error(folder: Path, frames: Path) -> None:
    for name in ("missing", "missing.csv"):
        with pytest.raises(UserError, match="missing"):
            read_predictions(folder / name, OBJECTS, frames)
    with pytest.raises(UserError) as caught:
        read_predictions(folder, OBJECTS, None)
    assert "--frames" in caught.value.hint


def read_csv(folder: Path, *lines: str) -> Predictions:
    (folder / "results.csv").write_text("\n".join(lines))
    return read_predictions(folder / "results.csv", OBJECTS, None)


def test_the_best_bop_pose_is_converted_to_metres_in_the_original_frame(tmp_path: Path) -> None:
    offset = np.array(resource("published")["bop_ycbv_offsets_mm"][MUG])
    shift = " ".join(str(v) for v in 1000 * PLACE - np.array(TURNED) @ offset)
    rows = [f"48,36,14,0.2,{R_ROW},0 0 500", f"48,36,14,0.9,{R_ROW},{shift}"]
    poses = read_csv(tmp_path, "scene_id,im_id,obj_id,score,R,t", *rows, f"{rows[0]} ")
    (class_id, pose), *further = poses["0048/000036"]
    assert OBJECTS.name(class_id) == MUG
    np.testing.assert_allclose(pose, np.column_stack([TURNED, PLACE]), atol=1e-9)
    assert [other for other, _ in further] == [class_id, class_id]


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8-sig", ","), ("utf-16", ","), ("utf-8", ";"), ("utf-16", "\t")],
)
def test_bop_files_may_come_from_other_programs(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    lines = [HEADER, f"48,36,14,0.5,{R_ROW},0 0 900,-1"]
    expected = read_csv(tmp_path, *lines)
    text = "\r\n".join(lines).replace(",", delimiter)
    (tmp_path / "results.csv").write_text(text, encoding, newline="")
    assert str(read_predictions(tmp_path / "results.csv", OBJECTS, None)) == str(expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, f"48,36,14,1,{R_ROW},0 0,-1"], "row 2: R has 9 numbers and t has 2"),
        ([HEADER, "48,36,14,1,1 0 0,0 0 900,-1"], "R has 3 numbers and t has 3"),
        ([HEADER, f"48,36,99,1,{R_ROW},0 0 900,-1"], "unknown object number 99"),
        ([HEADER, f"48,36,14,1,{R_ROW},0 0 nan,-1"], "NaN"),
        ([HEADER, "48,36,14,1,1 0 0 0 1 0 0 0 2,0 0 900,-1"], "R is not a rotation"),
        ([HEADER, "48,36,14,1,1 0 0 0 1 0 0 0 -1,0 0 900,-1"], "R is not a rotation"),
        ([HEADER, f"48,36,mug,1,{R_ROW},0 0 900,-1"], "invalid literal"),
        ([HEADER, "48,36,14"], "row 2"),
        ([HEADER, f"48,36,14,1,{R_ROW},0 0 0.9,-1"], "0.9 mm"),
        (["scene_id,im_id,obj_id,score,R,time"], "no column t"),
        ([HEADER], "has no poses"),
        ([""], "no column scene_id"),
        ([HEADER.replace("scene_id", "Scene_ID")], "no column scene_id: it begins with 'Scene_ID,"),
        ([HEADER.replace(",", "|")], r"it begins with 'scene_id\|im_id"),
        ([HEADER, f"48,36,14,0.5,{R_ROW},0 0 900,-1", '48,36,"14', *["x" * 9000] * 20], "field"),
        ([HEADER.replace(",", ";"), f"48;36;14;0,5;{R_ROW};0 0 900;-1"], "float: '0,5'"),
    ],
)
def test_invalid_bop_files_are_errors(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path, *lines)


def test_posecnns_published_poses_score_as_in_an_independent_evaluation() -> None:
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
    rows = {n: [row[k] for k in keys] for n, row in summary["classes"].items()}
    assert rows.keys() == expected["per_class"].keys()
    for name, row in expected["per_class"].items():
        assert rows[name] == pytest.approx(row, abs=0.01)


def test_bop_results_with_any_number_of_columns_are_refused(tmp_path: Path) -> None:
    columns = "".join(f",c{number}" for number in range(10**5))
    with pytest.raises(UserError, match=r"results.csv, row 1: .* characters"):
        read_csv(tmp_path, f"scene_id,im_id,obj_id,score,R,t{columns}", *["48,1"] * 10**5)
