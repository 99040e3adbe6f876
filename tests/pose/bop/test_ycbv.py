"""YCB-Video in both frames: its own, and BOP's with moved models."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("trimesh")

import trimesh

from ffreid.pose.metrics import auc
from ffreid.pose.objects import ycb_objects, ycbv_objects
from ffreid.pose.resources import resource
from tests.commands import exit_code, mistake, read
from tests.pose.bop.make import (
    CAMERA,
    SMALL,
    box,
    check_training_sample,
    evaluated,
    in_a_row,
    rendered,
    write_models,
)
from tests.pose.bop.make import write_scene as write
from tests.pose.data.makers_data import write_ycb_frame

SUGAR_BOX, BANANA, CLAMP = 3, 10, 20
"""YCB-Video's numbers."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames in YCB-Video's layout and frame (ycb), and in BOP's (ycbv)."""
    root = tmp_path_factory.mktemp("both")
    objects, numbers = ycb_objects(), (SUGAR_BOX, BANANA, CLAMP)
    offsets = resource("published")["bop_ycbv_offsets_mm"]
    meshes, images = {}, {n: in_a_row(numbers, n, 600.0) for n in (1, 36)}
    for number in numbers:
        corners = objects.corners[number - 1] * 1000.0
        mesh = box(corners.min(axis=0), np.ptp(corners, axis=0))
        (root / f"ycb/models/{objects.name(number)}").mkdir(parents=True)
        np.savetxt(root / f"ycb/models/{objects.name(number)}/points.xyz", mesh.vertices / 1000)
        mesh.apply_translation(offsets[objects.name(number)])
        meshes[number] = mesh
    write_models(root / "ycbv/models_eval", meshes)
    write(root / "ycbv/test/000048", meshes, images)
    for image, placed in images.items():
        depth, front = rendered(meshes, placed, CAMERA)
        moved = [
            np.column_stack([p[:, :3], p[:, 3] + p[:, :3] @ offsets[objects.name(n)]])
            for n, p in placed
        ]
        poses = np.stack(moved, axis=2)
        poses[:, 3] /= 1000
        write_ycb_frame(
            root / "ycb/data",
            f"0048/{image:06d}",
            color=np.random.default_rng(image).integers(0, 255, (*depth.shape, 3), np.uint8)[
                ..., ::-1
            ],
            depth=(depth * 10).round(),
            label=np.array([0, *numbers])[front],
            poses=poses,
            cls_indexes=np.array(numbers),
            intrinsic_matrix=CAMERA,
        )
    (root / "ycb/image_sets").mkdir()
    for name in ("train", "keyframe"):
        (root / f"ycb/image_sets/{name}.txt").write_text("0048/000001\n0048/000036\n")
    return root


def test_ycb_and_ycbv_vote_for_the_same_places_and_score_the_same(
    both: Path, tmp_path: Path
) -> None:
    runs = {}
    for name, more in (("ycb", "DATA.INTRINSICS meta"), ("ycbv", "VOTE.FILTER true")):
        scores = evaluated(f"--dataset {name} --test-gt --root {both} {more}", tmp_path)
        poses = read(tmp_path / name / "default/test-gt/poses.json")
        runs[name] = scores["results"], poses["poses"]
        assert scores["results"]["pooled"]["ADD_auc"] > 99.9
    assert runs["ycb"][0]["pooled"] == pytest.approx(runs["ycbv"][0]["pooled"], abs=1e-3)
    offsets = resource("published")["bop_ycbv_offsets_mm"]
    for one, other in zip(runs["ycb"][1], runs["ycbv"][1], strict=True):
        a, b = (np.array(p["camera_from_object"]) for p in (one, other))
        assert one["class"] == other["class"]
        np.testing.assert_allclose(a[:, :3], b[:, :3], atol=1e-4)
        shift = a[:, :3] @ np.array(offsets[one["class"]]) / 1000
        np.testing.assert_allclose(a[:, 3] - shift, b[:, 3], atol=1e-5)
    assert ycbv_objects().names == ycb_objects().names


def test_a_results_file_scores_the_same_in_both_frames(both: Path, tmp_path: Path) -> None:
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for image in (1, 36):
        for number, pose in in_a_row((SUGAR_BOX, BANANA, CLAMP), image, 600.0):
            turn = Rotation.from_rotvec([0.05, 0.1, 0.02 * number]).as_matrix() @ pose[:, :3]
            r, t = (" ".join(map(repr, x.ravel().tolist())) for x in (turn, pose[:, 3] + number))
            lines.append(f"48,{image},{number},0.5,{r},{t},-1")
    csv = tmp_path / "some_ycbv-test.csv"
    csv.write_text("\n".join(lines))
    found = {}
    for name in ("ycb", "ycbv"):
        command = f"eval --dataset {name} --root {both} --predictions {csv}"
        assert exit_code(f"{command} --json {tmp_path / name}.json") == 0
        found[name] = read(tmp_path / f"{name}.json")
    classes = found["ycb"]["results"]["classes"]
    for number in (SUGAR_BOX, BANANA, CLAMP):
        errors = [e["add"] / 1000 for e in found["ycbv"]["errors"] if e["obj_id"] == number]
        row = classes[ycb_objects().name(number)]
        assert row["ADD_auc"] == pytest.approx(auc(errors), abs=1e-3)
        assert 50 < row["ADD_auc"] < 97
    assert found["ycbv"]["AR"] > 0


def test_models_of_another_frame_are_refused(
    both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(both / "ycbv", tmp_path / "ycbv")
    path = tmp_path / "ycbv/models_eval/obj_000010.ply"
    mesh: Any = trimesh.load(path)
    mesh.apply_translation([18.7, -12.2, 1.5])  # the authors' banana
    mesh.export(path)
    error, hint = mistake(capsys, f"eval --dataset ycbv --test-gt --root {tmp_path} {SMALL}")
    assert "the middle of the mesh is" in error
    assert "dataset's own mesh" in hint


def test_ycbv_gives_training_samples(both: Path, tmp_path: Path) -> None:
    shutil.copytree(both / "ycbv", tmp_path / "ycbv")
    (tmp_path / "ycbv/test").rename(tmp_path / "ycbv/train_real")
    check_training_sample("ycbv", tmp_path, 3)
