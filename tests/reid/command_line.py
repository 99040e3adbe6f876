"""Command lines on small toy data."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from ffreid.cli import main
from ffreid.engine.checkpoints import io
from ffreid.recipes import compose
from ffreid.reid import model, sources
from tests.states import without_times

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
PICTURES = {"train": 16, "query": 12, "test": 12}
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


def quoted(path: Path) -> str:
    return shlex.quote(str(path))


def ended(command: str) -> int:
    """Run a command line; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def mistake(capsys: pytest.CaptureFixture[str], command: str) -> tuple[str, str]:
    """Error and hint of a command line that fails with exit code 2."""
    capsys.readouterr()
    code = ended(command)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    *before, error, hint = err.splitlines()
    assert not [text for text in before if text.startswith(("error: ", "hint: ", "Traceback"))]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def alone(patch: pytest.MonkeyPatch) -> None:
    """Remove environment variables of data folders and of distributed launchers."""
    for name in ("FFREID_DATA", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        patch.delenv(name, raising=False)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def metrics(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """Rows of a run without times; those with names that start with `kind`."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in without_times(rows) if any(name.startswith(kind) for name in row)]


@contextmanager
def interrupted_after(step: int) -> Iterator[None]:
    """Interrupt the run at its first checkpoint after `step`."""
    save = io.save

    def save_until(path: Path, state: Any) -> io.Saved:
        if state["step"] > step:
            raise KeyboardInterrupt
        return save(path, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "save", save_until)
        yield
