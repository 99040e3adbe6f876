"""Event files hold a run's metrics and images, without those that a resumed run writes again."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine.tracking.logger import RunLogger
from ffreid.engine.tracking.tensorboard import FOLDER, EventWriter, check_available
from ffreid.errors import UserError
from tests.engine.example_runs import PLAN, RATES, SAVED, record


def load(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder / FOLDER))
    reader.Reload()
    return reader


def scalars(reader: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def make_logger(folder: Path, start: int = 0) -> RunLogger:
    return RunLogger(folder, PLAN, main=True, start=start, log_every=1, tensorboard=True)


def test_metrics_and_images_of_a_run_are_written(tmp_path: Path) -> None:
    with make_logger(tmp_path) as logger:
        logger.log_step(record(1))
        logger.log_step(record(2, math.nan, skipped="loss is nan", names=("a.png",)))
        image = np.zeros((4, 6, 3), np.uint8)
        logger.log_validation(2, {"CC rank-1": 0.5}, images={"a/b.png": image})
        logger.log_epoch(0, None, 3.0)
        logger.log_checkpoint(2, SAVED)
    reader = load(tmp_path)
    assert scalars(reader, "train/loss") == [(1, 0.5)]
    assert scalars(reader, "validation/CC rank-1") == [(2, 0.5)]
    for part, rate in RATES.items():
        steps, rates = zip(*scalars(reader, f"lr/{part}"), strict=True)
        assert steps == (1, 2)
        assert rates == pytest.approx((rate, rate))
    assert scalars(reader, "norm/net") == [(1, 2.0), (2, 2.0)]
    assert scalars(reader, "seconds") == [(1, 0.75), (2, 0.75)]
    assert scalars(reader, "epoch seconds") == [(2, 3.0)]
    assert scalars(reader, "save/last.pth MB") == [(2, 800.0)]
    (event,) = reader.Images("validation/a/b.png")
    assert (event.step, event.width, event.height) == (2, 6, 4)


def test_a_resumed_run_purges_later_steps(tmp_path: Path) -> None:
    for start, loss in ((0, 1.0), (2, 2.0)):
        with make_logger(tmp_path, start) as logger:
            for done in range(start + 1, 5):
                logger.log_step(record(done, loss))
    expected = [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert scalars(load(tmp_path), "train/loss") == expected


def test_a_missing_package_and_unwritable_files_are_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(UserError, match=r"cannot write .*tensorboard"):
        EventWriter(tmp_path, start=0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="--tensorboard") as caught:
        check_available()
    assert "pip install 'ffreid[tensorboard]'" in caught.value.hint
    with pytest.raises(UserError, match="--tensorboard"):
        EventWriter(tmp_path, start=0)
