"""BOP numbers and poses of results are those of the frames; contact sheets hold every picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from ffreid.pose.confidence import Evidence
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.objects import linemod_objects, ycb_objects
from ffreid.pose.own.find import FramePaths, find
from ffreid.pose.own.predict import FileResult
from ffreid.pose.own.results import Numbers, bop_rows, contact_sheet, drawn_points
from ffreid.pose.predictions import read_bop_csv
from ffreid.pose.predictor import Pose
from tests.pose.own.makers import Oracle, own_frame, toy_model, write_pair


def result(folder: str, name: str) -> FileResult:
    path = Path(folder) / f"{name}.png"
    return FileResult(FramePaths(f"{folder}/{name}", path, path, Path(folder)))


def test_numbers_are_those_of_the_names_and_given_once() -> None:
    frames = [
        ("48", "000001"),
        ("48", "x"),
        ("48", "000001"),
        ("mug", "7"),
        ("mug", "a-7"),
        ("9", ""),
    ]
    numbers = Numbers()
    given = [numbers.next(result(*frame)) for frame in frames]
    assert given == [(48, 1), (48, 2), (48, 3), (0, 7), (0, 8), (9, 0)]


def test_a_bop_file_is_read_back_as_the_same_poses(tmp_path: Path) -> None:
    objects = ycb_objects()
    generator = np.random.default_rng(0)
    expected = {}
    lines = ["scene_id,im_id,obj_id,score,R,t,time\n"]
    for class_id in (2, 14):
        rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
        rotation *= np.linalg.det(rotation)
        expected[class_id] = np.column_stack([rotation, [0.1, -0.2, 0.9]])
        pose = Pose(
            class_id=class_id,
            name=objects.name(class_id),
            camera_from_object=expected[class_id],
            keypoints_camera=np.zeros((9, 3)),
            votes=9,
            solved=True,
            evidence=Evidence(1, 1, 1, None),
        )
        lines.append(bop_rows([pose], objects, (48, 12), 0.5))
    (tmp_path / "bop.csv").write_text("".join(lines))
    poses = read_bop_csv(tmp_path / "bop.csv", objects)
    assert list(poses) == ["0048/000012"]
    for class_id, matrix in poses["0048/000012"]:
        np.testing.assert_allclose(matrix, expected[class_id], atol=1e-7)


def test_a_bop_scene_has_each_images_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = own_frame()
    monkeypatch.setattr("ffreid.pose.predictor.network_votes", Oracle(frame))
    colour = write_pair(tmp_path / "000048", frame=frame)
    for part in ("rgb", "depth"):
        (tmp_path / f"000048/{part}").mkdir()
    colour.rename(tmp_path / "000048/rgb/000012.png")
    (tmp_path / "000048/a-depth.png").rename(tmp_path / "000048/depth/000012.png")
    camera = {"cam_K": frame.intrinsics.ravel().tolist(), "depth_scale": 1.0}
    (tmp_path / "000048/scene_camera.json").write_text(json.dumps({"12": camera}))
    (done,) = toy_model().predict_files(tmp_path)
    assert done.error is None
    assert done.assumptions == []
    assert len(done.poses) == len(frame.class_ids)
    assert Numbers().next(done) == (48, 12)


def test_without_meshes_keypoints_and_boxes_are_drawn() -> None:
    none: Meshes = {}
    assert len(drawn_points(ycb_objects(), none)[1]) == 16
    assert len(drawn_points(linemod_objects("ape"), none)[1]) == 8
    mesh = {1: np.zeros((5, 3))}
    assert len(drawn_points(ycb_objects(), mesh)[1]) == 5


def test_a_contact_sheet_holds_every_picture() -> None:
    tiles = [np.full((100 + 20 * i, 320, 3), 100 + i, np.uint8) for i in range(7)]
    sheet = contact_sheet(tiles)
    assert sheet.shape == (2 * 220, 5 * 320, 3)
    assert {100 + i for i in range(7)} <= set(np.unique(sheet).tolist())


def test_a_folder_of_ycb_video_needs_no_options(tmp_path: Path) -> None:
    write_pair(tmp_path / "0048", "000001")
    (frame,) = find(tmp_path)
    assert frame.number == 1
    assert frame.folder.name == "0048"
