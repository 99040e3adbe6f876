"""Runs of the clips' networks through the command line."""

from pathlib import Path

import pytest

from ffreid.engine.checkpoints import io
from ffreid.reid.defaults import VIDEO_NETWORKS
from tests.pose.command_lines import no_save
from tests.reid.command_line import alone, ended, line, make_toy_data, metrics, read

VIDEO = "toy-reid-video"
# Tracklets are too few for two groups a step; non-local blocks need pictures as wide as these.
SMALL = "TRAIN.BN_GROUPS 1 DATA.WIDTH 32"


@pytest.fixture(autouse=True)
def _unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    monkeypatch.setattr(io, "save", no_save)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracklets")
    make_toy_data(folder / "data", VIDEO, SMALL)
    return folder


def test_a_run_of_tracklets_logs_and_evaluates(place: Path) -> None:
    more = f"{SMALL} MODEL.NAME c2dres50"
    assert ended(line("train", place, "c2d", more, VIDEO)) == 0
    folder = place / VIDEO / "c2d"
    rows = metrics(folder, "train/")
    assert [row["epoch"] for row in rows] == [0, 0, 1, 1]
    assert all(row["train/adversarial"] > 0 for row in rows)
    assert [row["step"] for row in metrics(folder, "validation/")] == [2, 4]
    found = read(folder / "validation-last.json")["scores"]
    assert [scores["name"] for scores in found] == ["general", "SC", "CC"]
    assert len((folder / "log_train.log").read_text().splitlines()) == 2


@pytest.mark.parametrize("network", [name for name in VIDEO_NETWORKS if name != "c2dres50"])
def test_every_network_of_clips_trains(place: Path, network: str) -> None:
    more = f"{SMALL} MODEL.NAME {network} TRAIN.STEPS 1 TRAIN.START_EPOCH_CC 0"
    more += " TRAIN.START_EPOCH_ADV 0"
    assert ended(line("train", place, network, more, VIDEO)) == 0
    (row,) = metrics(place / VIDEO / network, "train/")
    for name in ("classification", "pair", "clothes", "adversarial"):
        assert 0 < row[f"train/{name}"] < 100
    assert metrics(place / VIDEO / network, "validation/")
