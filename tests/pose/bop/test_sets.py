"""BOP's datasets under their names, made at toy sizes: LM-O, LineMOD, T-LESS."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("trimesh")


from ffreid.engine.dataset_files import read_image, read_single_channel
from ffreid.errors import UserError
from ffreid.pose.bop.dataset import BopDataset
from ffreid.pose.bop.evaluation import evaluate_frame_results
from ffreid.pose.bop.reader import bop_objects
from ffreid.pose.data.linemod_objects import LinemodObjectsReader
from ffreid.pose.data.sample import make_ground_truth
from ffreid.pose.inference import FrameResult
from ffreid.pose.objects import linemod_objects
from ffreid.pose.resources import resource
from ffreid.pose.voting.frame import ObjectPose
from tests.commands import exit_code, mistake, read
from tests.pose.bop.make import (
    CAMERA,
    SMALL,
    Placed,
    box,
    check_training_sample,
    evaluated,
    in_a_row,
    make_bop,
    rendered,
    to_shards,
    write_models,
)
from tests.pose.bop.make import write_scene as write
from tests.pose.data.makers_data import gt_entry, write_linemod_frame

EIGHT = {1: "ape", 5: "can", 6: "cat", 8: "driller", 9: "duck", 10: "eggbox", 11: "glue"}
EIGHT |= {12: "holepuncher"}


def linemod_meshes(numbers: Any) -> dict[int, Any]:
    """Boxes of the sizes of LineMOD's objects, mm."""
    infos = resource("linemod")["models_info_mm"]
    return {
        n: box(*([infos[str(n)][f"{what}_{a}"] for a in "xyz"] for what in ("min", "size")))
        for n in numbers
    }


@pytest.fixture(scope="module")
def lmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LM-O: three images with all objects; the second only is a target."""
    root = tmp_path_factory.mktemp("data")
    meshes = linemod_meshes(EIGHT)
    write_models(root / "lmo/models", meshes)
    wide = CAMERA @ np.diag([0.7, 0.7, 1]) + [[0, 0, 19.2], [0, 0, 14.4], [0, 0, 0]]
    images = {n: in_a_row(EIGHT, n) for n in (3, 4, 17)}
    for split in ("test", "train_pbr"):
        cameras = dict.fromkeys(images, wide)
        write(root / f"lmo/{split}/000002", meshes, images, cameras=cameras, depth_scale=1.0)
    listed = [{"scene_id": 2, "im_id": 4, "obj_id": n, "inst_count": 1} for n in EIGHT]
    (root / "lmo/test_targets_bop19.json").write_text(json.dumps(listed))
    return root


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(read(path))))


def test_lmo_is_scored_on_every_frame_and_on_bops_targets(
    lmo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluated(f"--dataset lmo --test-gt --root {lmo}", tmp_path)
    assert scores["frames"] == 3
    assert [*scores["results"]["classes"]] == [*EIGHT.values()]
    assert {row["instances"] for row in scores["results"]["classes"].values()} == {3}
    assert scores["results"]["pooled"]["ADD(-S)<0.1d"] == 100
    assert scores["bop"]["AR"] > 0.99
    assert scores["bop"]["estimates"] == 8
    assert "published" not in capsys.readouterr().err  # of true labels it would say nothing
    one = evaluated(f"--dataset lmo --cls cat --test-gt --root {lmo}/lmo", tmp_path)
    assert [*one["results"]["classes"]] == ["cat"]
    assert [*one["bop"]["objects"]] == ["6"]
    assert one["bop"]["notes"] == ["scored objects: 6 of 8"]


def test_a_network_for_an_object_or_for_all_is_of_linemod_and_lmo() -> None:
    for chosen, count in (("ape", 1), ("all", 13), ("duck,ape", 2)):
        here, there = linemod_objects(chosen, "lmo"), linemod_objects(chosen)
        assert len(here) == count
        assert here.names == there.names
        np.testing.assert_array_equal(here.keypoints, there.keypoints)
    assert linemod_objects("duck,ape").names == ("ape", "duck")
    assert linemod_objects("all").symmetric == {8, 9}
    with pytest.raises(UserError, match="no object 'apes'"):
        linemod_objects("ape,apes")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """LineMOD's layout: frames of ape, cat, and of benchvise with all of LM-O's objects."""
    root = tmp_path / "Linemod_preprocessed"
    infos = resource("linemod")["intrinsics"]["linemod"]
    camera = np.array(infos) * [[0.2], [0.2], [1]]
    meshes = linemod_meshes(EIGHT)
    (root / "models").mkdir(parents=True)
    for number, mesh in meshes.items():
        mesh.export(root / f"models/obj_{number:02d}.ply")
    frames: dict[int, list[list[Placed]]] = {
        1: [in_a_row([1])] * 2,
        6: [in_a_row([6])] * 2,
        2: [in_a_row(EIGHT, seed) for seed in range(2)] + [in_a_row([1, 5])],
    }
    for number, members in frames.items():
        home, entries, cameras = root / f"data/{number:02d}", {}, {}
        for frame, objects in enumerate(members):
            depth, front = rendered(meshes, objects, camera)
            ids = np.array([0, *(n for n, _ in objects)])[front]
            mask = np.round(ids * 255 / 12) if number == 2 else (ids > 0) * 255
            images = {"rgb": np.zeros((*depth.shape, 3), np.uint8), "depth": depth.round()}
            write_linemod_frame(home, f"{frame:04d}", mask=mask.astype(np.uint8), **images)
            entries[frame] = "".join(gt_entry(p[:, :3], p[:, 3] / 1000, n) for n, p in objects)
            cameras[frame] = {"cam_K": camera.ravel().tolist(), "depth_scale": 1.0}
        if number == 2:
            (home / "mask").rename(home / "merged_masks")
            entries[3] = gt_entry(np.eye(3), np.array([0, 0, 1]), 2)  # benchvise alone
        (home / "gt.yml").write_text("".join(f"{n}:\n{e}" for n, e in entries.items()))
        (home / "info.yml").write_text(yaml.safe_dump(cameras))
        for which in ("train", "test"):
            (home / f"{which}.txt").write_text("0000\n0001\n")
    return root


def test_lmo_is_read_in_linemods_layout(original: Path, tmp_path: Path) -> None:
    options = f"--root {original.parent} DATA.INTRINSICS meta"
    scores = evaluated(f"--dataset lmo --test-gt {options}", tmp_path)
    assert scores["frames"] == 3  # not that of benchvise alone
    counts = {n: r["instances"] for n, r in scores["results"]["classes"].items()}
    assert counts == dict.fromkeys(EIGHT.values(), 2) | {"ape": 3, "can": 3}
    assert scores["results"]["pooled"]["ADD(-S)<0.1d"] == 100
    assert "bop" not in scores
    shutil.rmtree(original / "data/02/merged_masks")
    one = evaluated(f"--dataset lmo --cls glue --test-gt {options} TEST.LIMIT 1", tmp_path)
    assert [*one["results"]["classes"]] == ["glue"]


def test_lmo_in_linemods_layout_has_no_training_frames(
    original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error, hint = mistake(capsys, f"train --dataset lmo --root {original}")
    assert "has no training frames" in error
    assert "--cls all" in hint


def test_one_network_is_trained_for_several_linemod_objects(original: Path) -> None:
    objects = linemod_objects("cat,ape")
    reader = LinemodObjectsReader(original, objects, intrinsics="meta")
    assert reader.test_names == [f"data/{n}/000{i}" for n in ("01", "06") for i in (0, 1)]
    drawn = [reader.draw(np.random.RandomState(seed))[5:7] for seed in range(40)]
    assert 10 < drawn.count("06") < 30
    for name, class_id in (("data/01/0000", 1), ("data/06/0001", 2)):
        frame = reader.read(name)
        assert frame.class_ids.tolist() == [class_id]
        assert {*np.unique(frame.labels)} == {0, class_id}
    assert [*reader.read_meshes()] == [1, 2]
    assert reader.files("data/06/0001")[0] == original / "data/06/rgb/0001.png"
    with pytest.raises(UserError, match="not a frame of ape, cat"):
        reader.read("data/02/0000")
    with pytest.raises(UserError, match="frames of one object, not of 2"):
        LinemodObjectsReader(original, objects, test_list=original / "data/01/test.txt")


def tless(root: Path) -> Path:
    """T-LESS: numbers with gaps, two of a kind, two cameras in a scene, shards to train on."""
    make_bop(root, ("test_primesense", "train_pbr", "train_canon"))
    scene = root / "test_primesense/000003/scene_camera.json"
    cameras = json.loads(scene.read_text())
    cameras["4"]["cam_K"][0] = cameras["4"]["cam_K"][4] = 118.0
    scene.write_text(json.dumps(cameras))
    to_shards(root / "train_pbr")
    return root


def test_a_check_reads_shards_and_knows_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tless(tmp_path / "tless").parent
    assert exit_code(f"data --dataset tless --root {root}") == 0
    assert exit_code(f"data --dataset tless --root {root} --check") == 1
    out, err = capsys.readouterr()
    assert "several objects" not in out + err
    # The images of both splits are the same here.
    wrong = re.findall(r"^ +(\w+) +\d+ +([1-9]\d*) *$", out, re.MULTILINE)
    assert wrong == [("duplicates", "3")]


def test_tless_trains_a_step_and_is_evaluated(tmp_path: Path) -> None:
    root = tless(tmp_path / "tless").parent
    options = "MODEL.BACKBONE random TRAIN.BATCH 2 TRAIN.STEPS 1 TRAIN.VALIDATE_FRAMES 1 "
    options += "VOTE.MAX_POINTS 30 TEST.LIMIT 1"
    command = f"train --dataset tless --root {root} --output {tmp_path}/runs {SMALL} {options}"
    assert exit_code(command) == 0
    results = read(tmp_path / "runs/tless/default/results.json")
    assert results["frames"] == 1
    assert "train_canon" not in results["data"]


def test_lmo_gives_training_samples(lmo: Path) -> None:
    check_training_sample("lmo", lmo, 8)


def test_published_recalls_stand_beside_the_whole_list_of_targets(
    lmo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for number, pose in in_a_row(EIGHT, 4):
        r, t = (" ".join(map(repr, x.ravel().tolist())) for x in (pose[:, :3], pose[:, 3]))
        lines.append(f"2,4,{number},0.5,{r},{t},-1")
    (tmp_path / "r.csv").write_text("\n".join(lines))
    command = f"eval --dataset lmo --root {lmo} --predictions {tmp_path}/r.csv"
    assert exit_code(command) == 0
    out, err = capsys.readouterr()
    assert "of the 1,445 instances of test_targets_bop19.json, not of 8" in err
    assert "published:" not in out
    monkeypatch.setitem(resource("published")["bop_recalls"]["lmo"], "instances", 8)
    assert exit_code(command) == 0
    out, err = capsys.readouterr()
    assert re.search(r"published: HiPose +- +79\.90", out)
    assert "published: GDRNPP, HiPose, DLTPose: " in err


def test_poses_of_a_test_set_without_truth_are_written_for_bops_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_bop(tmp_path / "itodd")
    scene = root / "test/000003"
    for path in (*scene.glob("rgb/*"), *scene.glob("depth/*")):  # grey TIFF, depth too
        is_depth = path.parent.name == "depth"
        image = read_single_channel(path, "depth") if is_depth else read_image(path)[..., 0]
        cv2.imwrite(str(path.with_suffix(".tif")), image)
        path.unlink()
    (scene / "rgb").rename(scene / "gray")
    shutil.rmtree(scene / "mask_visib")
    for name in ("scene_gt.json", "scene_gt_info.json"):
        (scene / name).unlink()
    command = f"--dataset bop --root {root}"
    results = evaluated(f"{command} --test-gt", tmp_path)  # reads the frames, finds nothing
    assert results["frames"] == 3
    assert results["results"]["pooled"]["instances"] == 0
    data, pose = BopDataset(root), np.eye(3, 4)
    pose[2, 3] = 0.5
    objects = bop_objects(root, "bop", "")
    found = ObjectPose(2, pose, np.zeros((9, 3)), solved=True, votes=70)
    unsolved = replace(found, class_id=1, camera_from_object=np.eye(3, 4), solved=False)
    gt = make_ground_truth("test/000003/000004", np.zeros(0, int), np.zeros((0, 3, 4)), objects)
    result = FrameResult(gt, (unsolved, found), ())
    assert not evaluate_frame_results(data, tmp_path, [result], objects, name="itodd", compare=True)
    lines = (tmp_path / "ffreid_itodd-test.csv").read_text().splitlines()
    assert lines[1] == "3,4,7,70.000000,1 0 0 0 1 0 0 0 1,0 0 500,-1.0000"
    assert "BOP's server scores the file" in capsys.readouterr().err
    error, hint = mistake(capsys, f"eval {command} --predictions {tmp_path}/ffreid_itodd-test.csv")
    assert "its poses are not public" in error
    assert "BOP's server" in hint


def test_evaluations_of_a_network_for_each_object_are_put_together(
    lmo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs/lmo"
    for name in ("ape", "glue"):
        evaluated(f"--dataset lmo --cls {name} --test-gt --root {lmo}", tmp_path / "gt")
        results = tmp_path / f"gt/lmo/{name}/test-gt"
        edit(results / "results.json", lambda payload: payload | {"trained_on": "linemod"})
        shutil.copytree(results, runs / name)
    command = f"eval --dataset lmo --root {lmo} --predictions {runs}"
    assert exit_code(f"{command} --json {tmp_path}/all.json") == 0
    scores = read(tmp_path / "all.json")
    assert {n: row["instances"] for n, row in scores["results"]["classes"].items()} == {
        "ape": 3,
        "glue": 3,
    }
    assert scores["results"]["pooled"]["ADD(-S)<0.1d"] == 100
    assert [*scores["bop"]["objects"]] == ["1", "11"]
    assert scores["bop"]["AR"] > 0.99
    assert "no run of can, cat" in " ".join(scores["notes"])
    capsys.readouterr()
    shutil.copytree(runs / "ape", runs / "again")
    error, _ = mistake(capsys, command)
    assert "ape is in" in error
    error, _ = mistake(capsys, f"eval --dataset lmo --root {lmo} --predictions {tmp_path}")
    assert "holds no evaluated runs of lmo" in error
