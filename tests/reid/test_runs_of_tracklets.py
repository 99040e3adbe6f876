"""Training of video networks through the command line."""

from pathlib import Path

import pytest

from ffreid.engine.checkpoints import io
from ffreid.reid.defaults import VIDEO_NETWORKS
from tests.commands import exit_code, metrics, read
from tests.pose.command_lines import no_save
from tests.reid.command_line import line, make_toy_data

VIDEO = "toy-reid-video"
# Too few tracklets for two groups per step; non-local blocks need images of this width.
SMALL = "TRAIN.BN_GROUPS 1 DATA.WIDTH 32"


@pytest.fixture(autouse=True)
def _no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "save", no_save)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracklets")
    make_toy_data(folder / "data", VIDEO, SMALL)
    return folder


def test_training_on_tracklets_logs_and_evaluates(workspace: Path) -> None:
    more = f"{SMALL} MODEL.NAME c2dres50"
    assert exit_code(line("train", workspace, "c2d", more, VIDEO)) == 0
    folder = workspace / VIDEO / "c2d"
    rows = metrics(folder, "train/")
    assert [row["epoch"] for row in rows] == [0, 0, 1, 1]
    assert all(row["train/adversarial"] > 0 for row in rows)
    assert [row["step"] for row in metrics(folder, "validation/")] == [2, 4]
    result = read(folder / "validation-last.json")["scores"]
    assert [scores["name"] for scores in result] == ["general", "SC", "CC"]
    assert len((folder / "log_train.log").read_text().splitlines()) == 2


@pytest.mark.parametrize("network", [name for name in VIDEO_NETWORKS if name != "c2dres50"])
def test_every_video_network_trains(workspace: Path, network: str) -> None:
    more = f"{SMALL} MODEL.NAME {network} TRAIN.STEPS 1 TRAIN.START_EPOCH_CC 0"
    more += " TRAIN.START_EPOCH_ADV 0"
    assert exit_code(line("train", workspace, network, more, VIDEO)) == 0
    (row,) = metrics(workspace / VIDEO / network, "train/")
    for name in ("classification", "pair", "clothes", "adversarial"):
        assert 0 < row[f"train/{name}"] < 100
    assert metrics(workspace / VIDEO / network, "validation/")
