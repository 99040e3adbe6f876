"""Object sets in training, and the objects that checkpoints hold: no dataset is needed later."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("trimesh")

import ffreid
from ffreid.engine.checkpoints import io
from ffreid.pose.bop.reader import bop_objects
from ffreid.pose.object_set import make
from tests.commands import exit_code, mistake, quoted, read
from tests.pose.bop.make import CAMERA, INFO, make_bop

QUICK = "TRAIN.BATCH 1 MODEL.BACKBONE random MODEL.POINTS 1024 DATA.WORKERS 0"
ONE_STEP = f"TRAIN.STEPS 1 TRAIN.EVAL_POSES false TRAIN.VALIDATE_FRAMES 1 {QUICK}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BOP dataset, a set of its two objects with 12 keypoints, and a run on both."""
    folder = tmp_path_factory.mktemp("stored")
    root = make_bop(folder / "mini", ("train_pbr", "test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "find_symmetries", lambda surface, _: ([], [], surface.centroid()))
        names = ["obj_000002.ply", "obj_000007.ply"]
        ffreid.make_objects([root / "models_eval" / n for n in names], folder / "set", keypoints=12)
    infos = read(folder / "set/models/models_info.json")
    infos["2"] |= {"symmetries_discrete": INFO["2"]["symmetries_discrete"]}
    (folder / "set/models/models_info.json").write_text(json.dumps(infos))
    command = f"train --dataset bop --root {root} --objects {folder / 'set'} {ONE_STEP}"
    assert exit_code(f"{command} --output {folder / 'runs'}") == 0
    return folder


def checkpoint(folder: Path) -> Path:
    return folder / "runs/bop/default/last.pth"


def test_a_set_has_names_keypoints_and_the_symmetries_of_models_info(folder: Path) -> None:
    objects = bop_objects(folder / "set", "bop", "")
    made = read(folder / "set/objects.json")["objects"]
    assert objects.names == tuple(entry["name"] for entry in made)
    assert objects.keypoints.shape == (2, 12, 3)
    np.testing.assert_allclose(objects.keypoints[1], made[1]["keypoints"], atol=1e-7)
    assert made[0]["symmetric"] is False
    assert objects.symmetric == {1}  # by the edit alone
    assert bop_objects(folder / "set", "bop", "7").numbers == (7,)


def test_a_checkpoint_needs_no_dataset(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FFREID_DATA", raising=False)
    alone = tmp_path / "alone.pth"
    state = io.load(checkpoint(folder))
    torch.save(state | {"config": state["config"].replace(str(folder), "/gone")}, alone)
    for model in (ffreid.load_model(alone), ffreid.create_model("bop", alone)):
        assert isinstance(model, ffreid.PoseModel)
        assert model.objects.numbers == (2, 7)
        assert model.objects.keypoints.shape == (2, 12, 3)
        assert model.objects.symmetric == {1}
        assert model.frame_size == (96, 128)
        for class_id, points in model.meshes.items():
            corners = model.objects.corners[class_id - 1]
            assert len(points) == 2000
            np.testing.assert_allclose(points.min(axis=0), corners.min(axis=0), atol=1e-6)
            np.testing.assert_allclose(points.max(axis=0), corners.max(axis=0), atol=1e-6)
    image = folder / "mini/test/000003/rgb/000000.png"
    depth = folder / "mini/test/000003/depth/000000.png"
    camera = " ".join(str(CAMERA[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    command = f"predict --checkpoint {alone} {image} --depth {depth} --depth-scale 10000"
    assert exit_code(f"{command} --intrinsics {camera} --out {tmp_path / 'out'}") == 0
    assert (tmp_path / "out/overlays").is_dir()


def test_an_evaluation_takes_the_set(folder: Path, tmp_path: Path) -> None:
    command = f"eval --dataset bop --root {folder / 'mini'} --objects {folder / 'set'}"
    command += f" --output {tmp_path} --checkpoint {checkpoint(folder)} TEST.LIMIT 1"
    assert exit_code(f"{command} --json {tmp_path / 'r.json'} {QUICK}") == 0
    assert set(read(tmp_path / "r.json")["results"]["classes"]) == {"obj_000002", "obj_000007"}


def moved(number: str) -> Callable[[Any], Any]:
    def change(content: Any) -> Any:
        for entry in content["objects"]:
            if str(entry["number"]) == number:
                entry["keypoints"][3] = entry["centre"]
        return content

    return change


def flipped(infos: Any) -> Any:
    infos["7"]["symmetries_continuous"] = INFO["7"]["symmetries_continuous"]
    return infos


@pytest.mark.parametrize("task", ["train", "eval"])
@pytest.mark.parametrize(
    ("file", "change", "error"),
    [
        ("objects.json", moved("7"), "other keypoints of obj_000007"),
        ("models/models_info.json", flipped, "other symmetries of obj_000007"),
        ("", None, "12 keypoints there, 8 here"),
    ],
)
def test_other_objects_than_the_checkpoints_are_refused_by_name(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    file: str,
    change: Callable[[Any], Any] | None,
    error: str,
) -> None:
    command = f"{task} --dataset bop --root {folder / 'mini'} --resume {checkpoint(folder)}"
    command += f" --output {tmp_path / 'runs'} {ONE_STEP}"
    if change is not None:
        shutil.copytree(folder / "set", tmp_path / "set")
        (tmp_path / "set" / file).write_text(json.dumps(change(read(tmp_path / "set" / file))))
        command += f" --objects {tmp_path / 'set'}"
    if task == "eval" and "symmetries" in error:
        return  # scores by other symmetries are asked for
    found, hint = mistake(capsys, command)
    assert error in found
    assert "--objects" in hint


def with_entry(**values: Any) -> Callable[[Any], Any]:
    def change(content: Any) -> Any:
        content["objects"][0] |= values
        return content

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda content: content | {"objects": content["objects"][:1]}, "the objects 2, models"),
        (with_entry(number=3), "the objects 3, 7, models_info.json those of 2, 7"),
        (with_entry(name="obj_000007"), "a name twice"),
        (with_entry(keypoints=[[0, 0, 0]] * 5), "unlike numbers of keypoints: 5, 12"),
        (with_entry(keypoints=[[0, 0]]), "keypoints are not 3 or more points"),
        (with_entry(keypoints=[[0, 0, 9.0]] * 12), "(obj_000002) has keypoints outside"),
        (with_entry(diameter=107.0), "has a diameter of 107 m, its model 0.1077 m"),
        (with_entry(corners=[[0, 0, 0]] * 8), "has keypoints outside"),
        (with_entry(corners=[[1, 0, 0]]), "corners are not 8 points"),
        (lambda content: {"version": 1}, "is not of an object set: KeyError('objects')"),
        (lambda content: [], "is not of an object set"),
    ],
)
def test_a_set_that_is_not_of_its_models_is_refused(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], Any],
    error: str,
) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    path = tmp_path / "set/objects.json"
    path.write_text(json.dumps(change(read(path))))
    command = f"data --dataset bop --root {folder / 'mini'} --objects {tmp_path / 'set'}"
    assert error in mistake(capsys, command)[0]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("data --dataset bop --root {root} --objects {root}", "holds no object set"),
        ("data --dataset bop --root {root} --objects {root}/none", "holds no object set"),
        ("data --dataset toy-pose --objects {set}", "has objects of its own"),
        ("data --dataset toy-reid --objects {set}", "no effect for toy-reid"),
        ("predict --checkpoint {damaged} {root}", "its objects are damaged"),
        ("predict --checkpoint {garbage} {root}", "objects.numbers is"),
    ],
)
def test_sets_that_cannot_be_used_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, error: str
) -> None:
    names = {"root": folder / "mini", "set": folder / "set"}
    if "{damaged}" in command or "{garbage}" in command:
        state = io.load(checkpoint(folder))
        for name, entry in (("damaged", {"names": ["one"]}), ("garbage", {"numbers": "12"})):
            names[name] = tmp_path / f"{name}.pth"
            torch.save(state | {"objects": state["objects"] | entry}, names[name])
    assert error in mistake(capsys, command.format(**{k: quoted(v) for k, v in names.items()}))[0]


def test_without_objects_a_network_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FFREID_DATA", raising=False)
    with pytest.raises(ffreid.UserError, match="no data folder for bop"):
        ffreid.create_model("bop")
