"""Rendered datasets read back: poses, depth and masks agree, whoever renders them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ffreid.pose.bop.reader import BopReader, bop_objects
from ffreid.pose.data.depth import back_project
from ffreid.pose.render.command import render
from ffreid.pose.render.frames import PARTS
from tests.commands import exit_code, mistake, quoted, read
from tests.pose.render.make import NUMBERS

trimesh: Any = pytest.importorskip("trimesh")

OPTIONS: dict[str, Any] = {
    "size": "72x96", "renderer": "embree", "workers": 1, "seed": 3,
}  # fmt: skip


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_objects_lie_on_the_depth_where_their_masks_are(rendered: Path) -> None:
    objects = bop_objects(rendered, "bop", "")
    reader = BopReader(rendered, objects, canonical=False)
    assert (len(reader.train_names), len(reader.test_names)) == (3, 4)
    seen = 0
    for name in [*reader.train_names, *reader.test_names]:
        frame = reader.read(name)
        assert frame.instances is not None
        points = back_project(frame.depth / frame.depth_scale, frame.intrinsics)
        for row, (class_id, pose) in enumerate(
            zip(frame.class_ids, frame.camera_from_object, strict=True), 1
        ):
            own = points[(frame.instances == row) & (frame.depth > 0)][::7]
            mesh = trimesh.load(rendered / f"models/obj_{objects.numbers[class_id - 1]:06d}.ply")
            corners = np.asarray(mesh.triangles) / 1000
            local = np.repeat((own - pose[:, 3]) @ pose[:, :3], len(corners), axis=0)
            nearest = trimesh.triangles.closest_point(np.tile(corners, (len(own), 1, 1)), local)
            distances = np.linalg.norm(nearest - local, axis=1).reshape(len(own), -1).min(axis=1)
            assert distances.max(initial=0) < 0.001
            seen += len(own)
    assert seen > 200


def test_masks_counts_and_boxes_agree(rendered: Path) -> None:
    counted = set[int]()
    for scene in (rendered / "train_pbr/000000", rendered / "test/000000"):
        truth, infos = read(scene / "scene_gt.json"), read(scene / "scene_gt_info.json")
        assert truth.keys() == infos.keys() == read(scene / "scene_camera.json").keys()
        for number, entries in truth.items():
            depth = cv2.imread(str(scene / f"depth/{int(number):06d}.png"), cv2.IMREAD_UNCHANGED)
            assert depth is not None
            assert (depth > 0).mean() > 0.9
            together = np.zeros(depth.shape, int)
            for index, (entry, info) in enumerate(zip(entries, infos[number], strict=True)):
                name = f"{int(number):06d}_{index:06d}.png"
                mask, visible = (
                    np.array(cv2.imread(str(scene / kind / name), cv2.IMREAD_UNCHANGED)) == 255
                    for kind in ("mask", "mask_visib")
                )
                assert not (visible & ~mask).any()
                assert info["px_count_visib"] == visible.sum()
                assert info["px_count_all"] >= mask.sum()
                assert info["px_count_valid"] == mask.sum()  # no holes without noise
                assert info["visib_fract"] == pytest.approx(visible.sum() / info["px_count_all"])
                x, y, w, h = info["bbox_visib"]
                assert visible[y : y + h, x : x + w].sum() == visible.sum()
                together += visible
                counted.add(entry["obj_id"])
                assert np.linalg.det(np.reshape(entry["cam_R_m2c"], (3, 3))) == pytest.approx(1)
            assert together.max() <= 1
    assert counted == set(NUMBERS)
    targets = read(rendered / "test_targets_bop19.json")
    assert {t["obj_id"] for t in targets} <= set(NUMBERS)
    assert max(t["inst_count"] for t in targets) == 2


def test_true_labels_find_every_instance(rendered: Path, tmp_path: Path) -> None:
    command = f"eval --dataset bop --root {quoted(rendered)} --test-gt --output {tmp_path}"
    assert exit_code(f"{command} MODEL.POINTS 9000 DATA.WORKERS 0") == 0
    scores = read(tmp_path / "bop/default/test-gt/results.json")
    # But for those with less than a fifth of the votes of another one of their class.
    assert scores["bop"]["AR"] > 0.9


def test_a_stopped_run_continues_and_grows_to_the_same_bytes(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = render(objects, tmp_path / "whole", frames=4, test=1, **OPTIONS)
    assert not (whole / PARTS).exists()
    part = render(objects, tmp_path / "part", frames=2, **OPTIONS)
    # As after a kill: of frame 1 there are images, but no truth.
    for name in ("scene_camera.json", "scene_gt.json", "scene_gt_info.json"):
        path = part / "train_pbr/000000" / name
        path.write_text(json.dumps({"0": read(path)["0"]}))
    (part / "train_pbr/000000/rgb/000001.png").write_bytes(b"half")
    render(objects, part, frames=4, test=1, **OPTIONS)
    assert contents(part) == contents(whole)
    capsys.readouterr()
    render(objects, part, frames=1, **OPTIONS)
    assert "train_pbr has 4 frames, more than were asked for" in capsys.readouterr().err
    assert contents(part) == contents(whole)


def test_several_processes_render_the_same_frames(objects: Path, tmp_path: Path) -> None:
    one = render(objects, tmp_path / "one", frames=2, **OPTIONS)
    two = render(objects, tmp_path / "two", frames=2, **OPTIONS | {"workers": 2})
    assert contents(one) == contents(two)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--frames 0", "--frames is 0"),
        ("--frames 10000000", "--frames is 10000000"),
        ("--frames 2 --test -1", "--test is -1"),
        ("--frames 2 --workers 0", "--workers is 0"),
        ("--frames 2 --instances 21", "--instances is 21"),
        ("--frames 2 --split real", "--split is 'real'"),
        ("--frames 2 --split test --test 1", "cannot be combined"),
        ("--frames 2 --renderer blender", "unknown renderer 'blender'"),
        ("--frames 2 --size 10x10", "--size is '10x10'"),
        ("--frames 2 --size 200x900", "--size is 200x900"),
        ("--frames 2 --camera none.json", "no camera file none.json"),
        ("--frames 2 --camera {tmp}/camera.json", "the focal lengths are 5, 5 pixels"),
        ("--frames 2 --camera {tmp}/depth.json", "depth_scale is 1e+09 units per metre"),
        ("--frames 2 --camera {tmp}/zero.json", "depth_scale is 0"),
        ("--frames 2 --out {tmp}/other", "is not empty and holds no rendered frames"),
        ("--frames 2 --objects {tmp}/other", "has no models/models_info.json"),
        ("--frames 2 --objects {tmp}/none", "is no folder"),
        ("--frames 2 --objects {tmp}/large", "object 5 is 80 m large"),
        ("--frames 2 --objects {tmp}/torn", "cannot read"),
        ("--frames 2 --objects {tmp}/plain", "no texture obj_000005.png"),
        ("--frames 2 --objects {tmp}/newer", "version 2, not 1"),
        ("--frames 2 --objects {tmp}/mirrored", "symmetries of object 6: a matrix is not"),
    ],
)
def test_mistakes_are_named_before_any_work(
    objects: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    error: str,
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    for name in ("large", "torn", "plain", "newer", "mirrored"):
        shutil.copytree(objects, tmp_path / name)
    (tmp_path / "plain/models/obj_000005.png").unlink()
    table = read(objects / "objects.json") | {"version": 2}
    (tmp_path / "newer/objects.json").write_text(json.dumps(table))
    infos = read(objects / "models/models_info.json")
    infos["6"]["symmetries_discrete"] = [np.diag([1.0, 1, -1, 1]).ravel().tolist()]
    (tmp_path / "mirrored/models/models_info.json").write_text(json.dumps(infos))
    text = (tmp_path / "large/models/obj_000005.ply").read_text()
    (tmp_path / "large/models/obj_000005.ply").write_text(text.replace("40.0", "40000.0"))
    (tmp_path / "torn/models/obj_000005.ply").write_text("ply\n")
    camera = {"fx": 5, "fy": 5, "cx": 320, "cy": 240, "width": 640, "height": 480}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    camera |= {"fx": 500, "fy": 500}
    for name, scale in (("depth", 1e9), ("zero", 0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**camera, "depth_scale": scale}))
    command = f"render --out {tmp_path}/out --objects {quoted(objects)} --renderer embree "
    message, _ = mistake(capsys, command + arguments.format(tmp=tmp_path))
    assert error in message
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "other/notes.txt").read_text() == "mine"


def test_a_folder_is_of_one_process(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = "import sys; from ffreid.engine.tracking.run_lock import *\n"
    held += "with lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", held, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        command = f"render --out {tmp_path} --objects {quoted(objects)} --frames 1 --size 72x96"
        message, hint = mistake(capsys, command)
        process.communicate()
    assert "another run is writing to" in message
    assert "--out" in hint
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_frames_of_other_arguments_are_kept(
    objects: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(rendered)
    command = f"render --out {quoted(rendered)} --objects {quoted(objects)} --frames 9 --seed 4"
    message, _ = mistake(capsys, command)
    assert "holds other frames" in message
    assert contents(rendered) == before


def test_a_missing_package_is_named(
    objects: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    command = f"render --out {tmp_path}/out --objects {quoted(objects)} --frames 1 --size 72x96"
    message, hint = mistake(capsys, f"{command} --renderer opengl")
    assert "--renderer opengl needs another package" in message
    assert hint == "pip install 'ffreid[render]'"
    assert exit_code(f"{command} --workers 1") == 0
    assert "note: --renderer opengl needs another package" in capsys.readouterr().err
    assert read(tmp_path / "out/render.json")["renderer"] == "embree"
