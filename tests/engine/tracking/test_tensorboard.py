"""Event files hold what was told, without what a resumed run tells anew."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine.tracking.logger import RunLogger
from ffreid.engine.tracking.tensorboard import FOLDER, Board, check_available, tagged
from ffreid.errors import UserError
from tests.engine.example_runs import PLAN, RATES, record


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every number, as TensorBoard shows it."""
    reader = loaded(folder)
    return {
        tag: [(event.step, event.value) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def loaded(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder / FOLDER))
    reader.Reload()
    return reader


def opened(folder: Path, start: int = 0) -> RunLogger:
    return RunLogger(folder, PLAN, main=True, start=start, log_every=1, tensorboard=True)


def test_numbers_and_pictures_of_a_run_are_there(tmp_path: Path) -> None:
    with opened(tmp_path) as logger:
        logger.log_step(record(1))
        logger.log_step(record(2, math.nan, skipped="loss is nan", names=("a.png",)))
        picture = np.zeros((4, 6, 3), np.uint8)
        logger.log_validation(2, {"CC rank-1": 0.5}, pictures={"a/b.png": picture})
        logger.log_epoch(0, None, 3.0)
        logger.log_checkpoint(2, "last.pth", seconds=1.5, megabytes=800.0)
    found = scalars(tmp_path)
    assert found["train/loss"] == [(1, 0.5)]
    assert found["validation/CC rank-1"] == [(2, 0.5)]
    for part, rate in RATES.items():
        steps, rates = zip(*found[f"lr/{part}"], strict=True)
        assert steps == (1, 2)
        assert rates == pytest.approx((rate, rate))
    assert found["norm/net"] == [(1, 2.0), (2, 2.0)]
    assert found["seconds"] == [(1, 0.75), (2, 0.75)]
    assert found["epoch seconds"] == [(2, 3.0)]
    assert found["save/last.pth MB"] == [(2, 800.0)]
    (shown,) = loaded(tmp_path).Images("validation/a/b.png")
    assert (shown.step, shown.width, shown.height) == (2, 6, 4)


def test_a_resumed_run_purges_what_it_tells_anew(tmp_path: Path) -> None:
    for start, loss in ((0, 1.0), (2, 2.0)):
        with opened(tmp_path, start) as logger:
            for done in range(start + 1, 5):
                logger.log_step(record(done, loss))
    assert scalars(tmp_path)["train/loss"] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_rows_become_tags() -> None:
    row = {"step": 1, "epoch": 0, "lr": 1e-3, "lr/clothes": 3.5e-4, "skipped": "why"}
    assert tagged(row, RATES) == {"epoch": 0, "lr/net": 1e-3, "lr/clothes": 3.5e-4}


def test_without_the_package_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="--tensorboard") as caught:
        check_available()
    assert "pip install 'ffreid[tensorboard]'" in caught.value.hint
    with pytest.raises(UserError, match="--tensorboard"):
        Board(tmp_path, start=0)


def test_event_files_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(UserError, match="cannot write in"):
        Board(tmp_path, start=0)
