"""Command lines on small toy data."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from ffreid.recipes import compose
from ffreid.reid import model, sources
from tests.commands import quoted

HEIGHT, WIDTH = 32, 16
IDENTITIES, TESTED = 2, 3
TOY = (
    f"DATA.TOY.IDENTITIES {IDENTITIES} DATA.TOY.TEST_IDENTITIES {TESTED} DATA.TOY.OUTFITS 2 "
    f"DATA.TOY.CAMERAS 2 DATA.TOY.PICTURES 2 DATA.TOY.FRAMES 4 "
    f"DATA.HEIGHT {HEIGHT} DATA.WIDTH {WIDTH} "
)
SETTINGS = (
    f"{TOY} DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 DATA.NUM_WORKERS 0 AUG.SEQ_LEN 2 "
    "MODEL.BACKBONE random "
    "TRAIN.MAX_EPOCH 2 TRAIN.START_EPOCH_CC 1 TRAIN.START_EPOCH_ADV 1 TRAIN.LOG_EVERY 1 "
    "TEST.EVAL_STEP 1 "
)
"""Two steps per epoch and four in total; the clothes classifier trains in the second epoch."""
IMAGES = {"train": 16, "query": 12, "test": 12}
"""Number of images in each part."""


class Tiny(nn.Module):
    """Features of the length of ResNet-50's from images of any size; 130,000 parameters."""

    def __init__(self, *, pooling: str, **_: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 8, stride=8)
        self.bn = nn.BatchNorm1d(32)
        self.last = nn.Linear(32, 4096 if pooling == "maxavg" else 2048)

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.first(images), (4, 2))
        result: Tensor = self.last(self.bn(pooled.flatten(1)))
        return result


def use_tiny(patch: pytest.MonkeyPatch) -> None:
    """Replace ResNet-50 by `Tiny`."""
    patch.setitem(model.NETWORKS, "resnet50", Tiny)


def make_toy_data(root: Path, dataset: str = "toy-reid", more: str = "") -> Path:
    """Generate the toy data below `root`; return their folder."""
    pairs = f"{SETTINGS} {more}".split()
    return sources.open_source(compose(dataset, root=root, pairs=pairs)).folder


def line(command: str, folder: Path, tag: str, more: str = "", dataset: str = "toy-reid") -> str:
    """A command line with data in ``folder/data`` and its run in ``folder/DATASET/TAG``."""
    flags = f"--dataset {dataset} --root {quoted(folder / 'data')} --output {quoted(folder)}"
    return f"{command} {flags} --tag {tag} {SETTINGS} {more}"
