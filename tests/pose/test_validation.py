"""Images at an evaluation show poses of the first frames, and do not disturb training."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from ffreid.pose import build, sources
from ffreid.pose.data.batch import Inputs, SkippedFrame
from ffreid.pose.validation import draw_examples
from ffreid.recipes import compose
from tests.makers import toy_folder

CPU = torch.device("cpu")
HEIGHT, WIDTH = 64, 96


class Recorder(nn.Module):
    """Labels every point as the first object's, with zero offsets; records its modes."""

    def __init__(self, classes: int, keypoints: int) -> None:
        super().__init__()
        self.inner = nn.Dropout()
        self.shape = classes, keypoints
        self.modes: list[bool] = []

    def forward(self, inputs: Inputs) -> SimpleNamespace:
        self.modes.append(self.training or self.inner.training)
        (classes, keypoints), count = self.shape, inputs.features.shape[2]
        labels = torch.zeros(1, classes, count)
        labels[:, 1] = 1
        return SimpleNamespace(
            segmentation=labels,
            keypoint_offsets=torch.zeros(1, keypoints, count, 3),
            centre_offsets=torch.zeros(1, 1, count, 3),
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"frames": 1, "test_frames": 5, "synthetic": 0, "height": HEIGHT, "width": WIDTH}
    return toy_folder(tmp_path_factory.mktemp("toy"), **sizes)


def config(root: Path, frames: int) -> CfgNode:
    settings = f"DATA.TOY.TRAIN 1 DATA.TOY.TEST 5 DATA.TOY.HEIGHT {HEIGHT} DATA.TOY.WIDTH {WIDTH}"
    settings += f" MODEL.POINTS 1024 TRAIN.VALIDATE_FRAMES {frames} VOTE.MAX_POINTS 20"
    return compose("toy-pose", root=root, pairs=settings.split())


@pytest.mark.parametrize(("frames", "count"), [(0, 4), (2, 2)])
def test_the_first_frames_are_drawn_without_side_effects(
    root: Path, frames: int, count: int
) -> None:
    cfg = config(root, frames)
    source = sources.open_source(cfg)
    net = Recorder(len(source.objects) + 1, source.objects.keypoints.shape[1]).train()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    images = draw_examples(cfg, source, net, CPU)
    assert list(images) == list(source.reader.test_names[:count])
    for image in images.values():
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert image.shape[1] >= WIDTH
    assert net.modes == [False] * count
    assert net.training and net.inner.training
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state  # type: ignore[index]


def test_a_skipped_frame_is_not_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(root, 2)
    source = sources.open_source(cfg)
    first, second = (build.evaluation_set(cfg, source, 2)[index] for index in range(2))
    lost = SkippedFrame(first.gt, "no depth")
    monkeypatch.setattr(build, "evaluation_set", lambda *_: [lost, second])
    net = Recorder(len(source.objects) + 1, source.objects.keypoints.shape[1])
    assert list(draw_examples(cfg, source, net, CPU)) == [second.gt.name]
