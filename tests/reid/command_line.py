"""Command lines on small made-up people, as a user gives them."""

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
"""Of pictures, two steps an epoch and four in all; the clothes train in the second epoch."""
PICTURES = {"train": 16, "query": 12, "test": 12}
"""How many there are in each part."""


class Tiny(nn.Module):
    """Features as long as ResNet-50's, of pictures of any size, by 130 thousand parameters."""

    def __init__(self, *, pooling: str, **_: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 8, stride=8)
        self.bn = nn.BatchNorm1d(32)
        self.last = nn.Linear(32, 4096 if pooling == "maxavg" else 2048)

    def forward(self, images: Tensor) -> Tensor:
        seen = nn.functional.adaptive_avg_pool2d(self.first(images), (4, 2))
        found: Tensor = self.last(self.bn(seen.flatten(1)))
        return found


def use_tiny(patch: pytest.MonkeyPatch) -> None:
    """Put `Tiny` in ResNet-50's place."""
    patch.setitem(model.NETWORKS, "resnet50", Tiny)


def make_toy_data(root: Path, dataset: str = "toy-reid", more: str = "") -> Path:
    """Draw the toy data below `root` and give their own folder."""
    pairs = f"{SETTINGS} {more}".split()
    return sources.open_source(compose(dataset, root=root, pairs=pairs)).folder


def line(command: str, place: Path, tag: str, more: str = "", dataset: str = "toy-reid") -> str:
    """A command line with the toy data in ``place/data``, its run in ``place/DATASET/TAG``."""
    flags = f"--dataset {dataset} --root {quoted(place / 'data')} --output {quoted(place)}"
    return f"{command} {flags} --tag {tag} {SETTINGS} {more}"


def quoted(path: Path) -> str:
    return shlex.quote(str(path))


def ended(words: str) -> int:
    """Run a command line; give its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(words))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def mistake(capsys: pytest.CaptureFixture[str], words: str) -> tuple[str, str]:
    """Error and hint of a command line that fails as a mistake should."""
    capsys.readouterr()
    code = ended(words)
    heard = capsys.readouterr()
    assert code == 2
    assert heard.out == ""
    *before, error, hint = heard.err.splitlines()
    assert not [told for told in before if told.startswith(("error: ", "hint: ", "Traceback"))]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def alone(patch: pytest.MonkeyPatch) -> None:
    """Be one process that nobody told where data lie."""
    for name in ("FFREID_DATA", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        patch.delenv(name, raising=False)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def metrics(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """Rows of a run, without what differs from run to run; of one `kind`, or all."""
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
