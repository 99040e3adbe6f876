"""Scores of results files, on made data and against the recorded numbers of BOP's toolkit."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trimesh")

from tests.commands import exit_code, mistake, read
from tests.golden import GOLDEN, SPLIT, facts, recordings
from tests.pose.bop.make import DEPTH_SCALE, INFO, make_bop, write_results

SCENE = "test/000003"
UNKNOWN = {"obj_id": 9, "cam_R_m2c": np.eye(3).ravel().tolist(), "cam_t_m2c": [0, 0, 500]}

MODELS = "models_eval/models_info.json"
MOVED = [1, 0, 0, 90, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
SIZE = {f"{what}_{axis}": side for axis in "xyz" for what, side in (("min", -30), ("size", 60))}


def changed(number: str, **values: Any) -> dict[str, Any]:
    return INFO | {number: INFO[number] | values}


def truths(**values: Any) -> dict[str, Any]:
    return {str(image): 3 * [UNKNOWN | {"obj_id": 2} | values] for image in (0, 4, 5)}


def target(number: int, count: int) -> dict[str, int]:
    return {"scene_id": 3, "im_id": 0, "obj_id": number, "inst_count": count}


def rows_with_times(*times: str) -> str:
    rows = (f"3,0,2,1,1 0 0 0 1 0 0 0 1,0 0 900,{time}" for time in times)
    return "\n".join(["scene_id,im_id,obj_id,score,R,t,time", *rows])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bop(tmp_path_factory.mktemp("bop") / "mini")


def scored(root: Path, results: Path, folder: Path) -> Any:
    command = f"eval --dataset bop --root {root} --predictions {results}"
    assert exit_code(f"{command} --json {folder / 'scores.json'}") == 0
    return read(folder / "scores.json")


@pytest.mark.parametrize("flip", [False, True])
def test_true_and_symmetric_poses_score_one(sound: Path, tmp_path: Path, flip: bool) -> None:
    scores = scored(sound, write_results(tmp_path / "made_mini-test.csv", flip=flip), tmp_path)
    assert scores["AR"] == scores["AR_VSD"] == scores["AR_MSSD"] == scores["AR_MSPD"] == 1
    own = [e for e in scores["errors"] if e["mssd"] < 1]
    assert len(own) == 9
    assert max(e["mspd"] for e in own) < 0.01
    # ADD knows no symmetry.
    assert all((e["add"] > 10) == (flip and e["obj_id"] == 2) for e in own)
    assert scores["notes"] == []


def test_a_shift_is_measured_in_millimetres_pixels_and_diameters(
    sound: Path, tmp_path: Path
) -> None:
    scores = scored(sound, write_results(tmp_path / "r.csv", shift=12.0), tmp_path)
    box = min(scores["errors"], key=lambda e: (e["im_id"], e["obj_id"], e["mssd"]))
    assert box["mssd"] == pytest.approx(12)
    assert box["add"] == pytest.approx(12)
    assert 2 < box["mspd"] < 4  # 120 pixels x 12 mm / 500 mm
    # 12 mm are 0.11 of the box's diameter and 0.14 of the cylinder's: thresholds 0.15 to 0.5.
    assert scores["recall_mssd"] == [0, 0, *[1.0] * 8]


def test_instances_are_matched_once_and_the_best_scored_are_kept(
    sound: Path, tmp_path: Path
) -> None:
    header, *rows = write_results(tmp_path / "r.csv").read_text().splitlines()
    boxes = [row for row in rows if row.startswith("3,0,2,")]
    (tmp_path / "r.csv").write_text("\n".join([header, boxes[0], boxes[0], boxes[1]]))
    scores = scored(sound, tmp_path / "r.csv", tmp_path)
    # Of three estimates the two best are kept, which are one pose: 1 of 9 instances.
    assert scores["AR_MSSD"] == pytest.approx(1 / 9)
    assert any("1 rows repeat another" in note for note in scores["notes"])


@pytest.mark.parametrize(
    "name", ["other_lmo-test.csv", "a_b_mini-test.csv", "mini-test.csv", "made_mini-val.csv"]
)
def test_a_name_that_bops_server_refuses_is_noted(sound: Path, tmp_path: Path, name: str) -> None:
    scores = scored(sound, write_results(tmp_path / name), tmp_path)
    assert scores["AR"] == 1
    assert scores["notes"] == [
        f"{name} is not named METHOD_mini-test.csv, as BOP's server wants it"
    ]


def test_columns_and_rows_may_have_another_order(sound: Path, tmp_path: Path) -> None:
    header, *rows = write_results(tmp_path / "r.csv").read_text().splitlines()
    turned = [",".join(reversed(line.split(","))) for line in (header, *reversed(rows))]
    (tmp_path / "r.csv").write_text("\n".join(turned))
    assert scored(sound, tmp_path / "r.csv", tmp_path)["AR"] == 1


def test_rows_of_the_chosen_precision_task_are_scored(tmp_path: Path) -> None:
    root = make_bop(tmp_path / "mini")
    listed = [{"scene_id": 3, "im_id": image} for image in (0, 5)]
    (root / "test_targets_bop24.json").write_text(json.dumps(listed))
    results = write_results(tmp_path / "r.csv")
    scores = scored(root, results, tmp_path)
    assert scores["AP"] == scores["AP_MSSD"] == scores["AP_MSPD"] == 1
    assert scores["objects"]["7"]["AP"] == 1
    # A wrong cylinder with the best score, in an image of the task: precision 1/2, then 2/3.
    best = results.read_text() + "\n3,0,7,0.99,1 0 0 0 1 0 0 0 1,500 0 900,0.5"
    results.write_text(best)
    scores = scored(root, results, tmp_path)
    assert scores["AP_objects"]["7"]["AP"] == pytest.approx(2 / 3)
    assert scores["AP_objects"]["2"]["AP"] == 1
    assert scores["AP"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("path", "change", "error"),
    [
        (MODELS, {"2": {}}, "object 2 has no diameter"),
        (MODELS, {"2": []}, "object 2 has no diameter"),
        (MODELS, changed("2", diameter=9), "its diameter"),
        (
            MODELS,
            changed("2", symmetries_discrete=[np.diag([-1, 1, 1, 1]).tolist()]),
            "object 2: a matrix is not a rotation",
        ),
        (
            MODELS,
            changed("7", symmetries_continuous=[{"axis": [0] * 3, "offset": [0] * 3}]),
            "object 7: the axis [0.0, 0.0, 0.0] has no direction",
        ),
        (
            MODELS,
            changed("2", symmetries_discrete=[MOVED], **SIZE),
            "one moves the middle of the object by 90 mm",
        ),
        (MODELS, {"2": INFO["2"]}, "no model of object 7"),
        (f"{SCENE}/scene_gt.json", {"0": [UNKNOWN]}, "image 0: no model of object 9"),
        (f"{SCENE}/scene_camera.json", {"0": {"cam_K": [1] * 9, "depth_scale": 0}}, "scale is 0"),
        (
            f"{SCENE}/scene_camera.json",
            {"0": {"cam_K": [0] * 9, "depth_scale": 1}},
            "cam_K is [0, 0, 0",
        ),
        (
            f"{SCENE}/scene_gt.json",
            truths(cam_R_m2c=[1] * 9),
            "R is not",
        ),
        (
            f"{SCENE}/scene_gt.json",
            truths(cam_t_m2c=[math.nan] * 3),
            "NaN",
        ),
        (f"{SCENE}/scene_camera.json", {"0": {"depth_scale": 1}}, "KeyError('cam_K')"),
        (f"{SCENE}/scene_gt.json", None, "no file"),
        (f"{SCENE}/scene_gt.json", [], "is not an object"),
        (f"{SCENE}/scene_gt_info.json", {"0": []}, "image 0"),
        ("test_targets_bop19.json", [{"scene_id": 9}], "KeyError"),
        (
            "test_targets_bop19.json",
            [{"scene_id": 9, "im_id": 1, "obj_id": 2, "inst_count": 1}],
            "scene 9, image 1",
        ),
        (f"{SCENE}/depth/000000.png", None, "000000.png"),
        ("models_eval/obj_000002.ply", None, "obj_000002.ply"),
        ("r.csv", "scene_id,im_id\n", "no column obj_id"),
        ("r.csv", "scene_id,im_id,obj_id,score,R,t\n3,0,5,1,1 0 0 0 1 0 0 0 1,0 0 9\n", "number 5"),
        (
            "r.csv",
            "scene_id,im_id,obj_id,score,R,t\n8,0,2,1,1 0 0 0 1 0 0 0 1,0 0 900\n",
            "the first is scene 8",
        ),
        ("test_targets_bop19.json", [], "no list of targets"),
        ("test_targets_bop19.json", [target(2, 0)], "inst_count of"),
        ("test_targets_bop19.json", [target(5, 1)], "no model of object 5"),
        ("r.csv", "scene_id,im_id,obj_id,score,R,t\n3,0,2\n", "more or fewer columns"),
        ("r.csv", "scene_id,im_id,obj_id,score,R,t\n3,0,2,1,1,0,0\n", "more or fewer columns"),
        ("r.csv", rows_with_times("-3"), "row 2: time is -3"),
        ("r.csv", rows_with_times("nan"), "row 2: time is nan"),
        ("r.csv", rows_with_times("inf"), "row 2: time is inf"),
        ("r.csv", rows_with_times("soon"), "row 2: could not convert"),
        ("r.csv", rows_with_times("0.25", "0.5"), "scene 3, image 0 have times of 0.25 and 0.5 s"),
        ("r.csv", rows_with_times("0.25", "-1"), "scene 3, image 0 have times of -1 and 0.25 s"),
        ("test_targets_bop24.json", [{"im_id": 0}], "KeyError('scene_id')"),
        ("test_targets_bop24.json", [{"im_id": 7, "scene_id": 3}], "scene 3, image 7"),
        ("test_targets_bop24.json", "[", "cannot read"),
    ],
)
def test_wrong_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, change: Any, error: str
) -> None:
    root = make_bop(tmp_path / "mini")
    results = write_results(tmp_path / "mini/r.csv")
    if change is None:
        (root / path).unlink()
    else:
        (root / path).write_text(change if isinstance(change, str) else json.dumps(change))
    message, _ = mistake(capsys, f"eval --dataset bop --root {root} --predictions {results}")
    assert error in message


def test_frames_are_read_in_metres_with_the_instances(sound: Path) -> None:
    from ffreid.pose.bop.reader import BopReader, bop_objects
    from ffreid.pose.data.depth import back_project
    from ffreid.pose.metrics import transform

    objects = bop_objects(sound, "bop", "")
    assert objects.numbers == (2, 7)
    assert objects.symmetric == {1, 2}
    reader = BopReader(sound, objects)
    assert reader.test_names == [f"test/000003/{n:06d}" for n in (0, 4, 5)]
    frame = reader.read(reader.test_names[1])
    assert frame.class_ids.tolist() == [1, 1, 2]
    assert frame.depth_scale == pytest.approx(1000 / DEPTH_SCALE)
    assert frame.instances is not None
    points = back_project(frame.depth / frame.depth_scale, frame.intrinsics)
    for row, pose in enumerate(frame.camera_from_object):
        seen = points[frame.instances == row + 1]
        size = np.array([0.08, 0.06, 0.04]) if row < 2 else np.array([0.05, 0.05, 0.07])
        local = (seen - pose[:, 3]) @ pose[:, :3]
        # On the surface, but for half a pixel.
        assert len(seen) > 100
        assert np.abs(np.abs(local / size).max(axis=1) - 0.5).mean() < 0.05
        assert transform(pose, np.zeros((1, 3)))[0, 2] == pytest.approx(pose[2, 3])
    assert bop_objects(sound, "bop", "7").numbers == (7,)


def test_true_labels_find_every_instance(sound: Path, tmp_path: Path) -> None:
    command = f"eval --dataset bop --root {sound} --test-gt --output {tmp_path}"
    assert exit_code(f"{command} MODEL.POINTS 1600 DATA.WORKERS 0") == 0
    results = read(tmp_path / "bop/default/test-gt/results.json")
    assert results["results"]["pooled"]["ADD(-S)<0.1d"] == 100
    assert results["bop"]["AR"] > 0.99
    assert results["notes"] == []
    command += " --tag first MODEL.POINTS 1600 DATA.WORKERS 0 TEST.LIMIT 1"
    assert exit_code(command) == 0
    first = read(tmp_path / "bop/first/test-gt/results.json")["bop"]
    assert first["AR"] > 0.99
    assert first["objects"]["2"]["instances"] == 2
    assert first["notes"] == ["2 images with targets are not evaluated, and are left out here"]


@pytest.mark.golden
@pytest.mark.parametrize("stem", recordings("bop", "scores_bop19.json"))
def test_scores_are_those_of_the_toolkit(stem: str, tmp_path: Path) -> None:
    folder = GOLDEN / "bop" / SPLIT
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    (results,) = folder.glob("*.csv")
    scores, recorded = scored(root, results, tmp_path), facts("bop", stem)
    for name in ("AR_MSSD", "AR_MSPD", "recall_mssd", "recall_mspd"):
        np.testing.assert_allclose(scores[name], recorded[name], rtol=1e-9)
    for name in ("AR", "AR_VSD"):
        assert scores[name] == pytest.approx(recorded[name], abs=0.02)
    detection = root / "test_targets_bop24.json"
    assert ({"AP", "AP_MSSD", "AP_MSPD"} <= {*scores}) == detection.exists()
    errors = {(e["im_id"], e["obj_id"], e["score"], e["gt"]): e for e in scores["errors"]}
    known = facts("bop", "pose_errors")
    assert len(known) == len(errors)
    for entry in known:
        found = errors[entry["im_id"], entry["obj_id"], entry["score"], entry["gt"]]
        for name in ("mssd", "mspd", "add", "adi"):
            assert found[name] == pytest.approx(entry[name], rel=1e-4)
        np.testing.assert_allclose(found["vsd"], entry["vsd"], atol=0.02)
