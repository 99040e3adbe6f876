"""A new pose dataset needs a reader, a recipe and one line; commands and API then accept it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ffreid import create_model, recipes, tasks
from ffreid.pose import build as pose_build
from ffreid.pose import defaults as pose_defaults
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.objects import ObjectModels
from ffreid.pose.sources import Layout
from ffreid.pose.toy.dataset import toy_object_models
from ffreid.pose.toy.objects import toy_objects
from ffreid.pose.toy.scenes import toy_frame
from tests.commands import exit_code


class SceneReader:
    """Rendered frames; their names, which are seeds, are in train.txt and test.txt."""

    policy: Policy = "linemod"
    fill_holes = False

    def __init__(
        self,
        folder: Path,
        objects: ObjectModels,
        *,
        train_list: Path | None = None,
        test_list: Path | None = None,
    ) -> None:
        self.folder, self.objects = folder, objects
        self.train_names = (train_list or folder / "train.txt").read_text().split()
        self.test_names = (test_list or folder / "test.txt").read_text().split()
        self.real_train_names = self.train_names

    def summary(self) -> str:
        return f"{len(self.train_names)} training and {len(self.test_names)} test frames"

    def draw(self, rng: np.random.RandomState) -> str:
        return self.train_names[rng.randint(len(self.train_names))]

    draw_real = draw

    def read(self, name: str) -> Frame:
        generator = np.random.default_rng(int(name))
        return toy_frame(name, toy_objects(), height=96, width=128, generator=generator)

    def files(self, name: str) -> list[Path]:
        return []

    def read_meshes(self) -> Meshes:
        return {number: self.objects.corners[number - 1] for number in self.objects.class_ids}


SCENES = Layout(SceneReader, lambda cfg: toy_object_models(cfg.DATASET))


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recipes that a test may add to."""
    folder = tmp_path / "configs"
    shutil.copytree(recipes.recipe_folder(), folder)
    monkeypatch.setattr(recipes, "recipe_folder", lambda: folder)
    return folder


def test_a_new_pose_dataset(
    configs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (configs / "pose/scenes.yaml").write_text("DATA: {LAYOUT: scenes, WORKERS: 0}\n")
    line = pose_defaults.Layout(f"{__name__}:SCENES", "train.txt, test.txt")
    monkeypatch.setitem(pose_defaults.LAYOUTS, "scenes", line)
    (tmp_path / "train.txt").write_text("1 2 3\n")
    (tmp_path / "test.txt").write_text("4\n")

    cfg = recipes.compose("scenes", root=tmp_path, pairs=["MODEL.POINTS", "1024"])
    source = tasks.modules("pose").sources.open_source(cfg)
    sample = pose_build.training_set(cfg, source)[0, 0]
    assert sample.inputs.features.shape[-2:] == (9, 1024)
    command = f"--dataset scenes --root {tmp_path} --output {tmp_path}/runs MODEL.POINTS 1024"
    assert exit_code(f"eval --test-gt {command}") == 0
    assert "100.00" in capsys.readouterr().out
    assert exit_code(f"data --dataset scenes --root {tmp_path}") == 0
    assert isinstance(create_model("scenes", device="meta"), torch.nn.Module)
