"""A run's metrics, log and state are in its files, written by the main process alone."""

import json
import math
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ffreid.engine.signals import Stopped
from ffreid.engine.task import Best
from ffreid.engine.tracking import logger as module
from ffreid.engine.tracking import run_state
from ffreid.engine.tracking.logger import RunLogger
from tests.engine.example_runs import PLAN, SAVED, record

BEST = Best(name="loss", value=0.25, step=6)


def make_logger(folder: Path, **options: Any) -> RunLogger:
    defaults: dict[str, Any] = {"main": True, "start": 0, "log_every": 10}
    return RunLogger(folder, PLAN, **defaults | options)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path, *names: str) -> list[Any]:
    status = run_state.read(folder)
    assert status is not None
    return [status.get(name) for name in ("state", "step", *names)]


def test_the_first_last_every_tenth_and_skipped_steps_have_rows(tmp_path: Path) -> None:
    with make_logger(tmp_path) as logger:
        for done in range(1, 26):
            skipped: dict[str, Any] = {"skipped": "loss is nan", "names": ("a.png",)}
            logger.log_step(record(done, math.nan, **skipped) if done == 13 else record(done))
    written = rows(tmp_path)
    expected = {"step": 1, "epoch": 0, "lr": 1e-3, "lr/clothes": 3.5e-4, "norm/net": 2.0}
    expected |= {"seconds": 0.75, "waited": 0.25, "train/loss": 0.5, "train/pair": 0.125}
    assert written[0] == expected
    assert [row["step"] for row in written] == [1, 10, 13, 20, 25]
    assert [row.get("skipped") for row in written] == [None, None, "loss is nan", None, None]
    assert written[2]["train/loss"] is None
    assert written[2]["samples"] == ["a.png"]


def test_a_resumed_run_writes_the_rows_of_an_uninterrupted_one(tmp_path: Path) -> None:
    for folder, starts in ((tmp_path / "full", (0, 25)), (tmp_path / "parts", (0, 12, 25))):
        folder.mkdir()
        for start, end in pairwise(starts):
            with make_logger(folder, start=start) as logger:
                for done in range(start + 1, end + 1):
                    logger.log_step(record(done))
    assert rows(tmp_path / "parts") == rows(tmp_path / "full")


def test_validations_and_checkpoints_have_rows_with_their_step(tmp_path: Path) -> None:
    with make_logger(tmp_path) as logger:
        logger.log_validation(10, {"loss": 0.25})
        logger.log_validation(10, {"loss": 0.125}, prefix="validation-ema")
        logger.log_checkpoint(10, SAVED)
    assert rows(tmp_path) == [
        {"step": 10, "validation/loss": 0.25},
        {"step": 10, "validation-ema/loss": 0.125},
        {"step": 10, "save/last.pth seconds": 1.5, "save/last.pth MB": 800.0},
    ]
    assert logger.progress.validation == (10, {"loss": 0.25})


def test_the_line_of_an_epoch_is_written_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_logger(tmp_path) as logger:
        logger.log_epoch(0, "Epoch1 Time:1.0s", 1.0)
        logger.log_epoch(1, None, 1.0)
        logger.log("note: something")
    assert (tmp_path / "log_train.log").read_text() == "Epoch1 Time:1.0s\n"
    assert capsys.readouterr().err == "Epoch1 Time:1.0s\nnote: something\n"


def test_other_processes_write_and_show_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffreid.engine.tracking.progress.PRINT_EVERY", 0.0)
    with make_logger(tmp_path, main=False, tensorboard=True) as logger:
        logger.log_step(record(1))
        logger.log_epoch(0, "Epoch1", 1.0)
        with logger.paused():
            logger.log_validation(10, {"loss": 0.25}, best=BEST)
        logger.log("a message")
        logger.log_checkpoint(10, SAVED)
        logger.set_state("running", more=1)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_the_state_is_written_every_half_minute_and_after_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = ("total", "best", "best_name", "best_step", "started")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    steps = set()
    with make_logger(tmp_path) as logger:
        *before, started = state(tmp_path, *facts)
        assert before == ["running", 0, 25, None, None, None]
        for done in range(1, 25):
            now[0] = done * module.STATE_EVERY / 10
            logger.log_step(record(done))
            steps.add(state(tmp_path)[1])
        logger.log_validation(24, {"loss": 0.25}, best=BEST)
        assert state(tmp_path, *facts) == ["running", 24, 25, 0.25, "loss", 6, started]
    assert steps == {0, 10, 20}


@pytest.mark.parametrize(
    ("done", "error", "final", "message"),
    [
        (24, None, "stopped", None),
        (25, None, "finished", None),
        (24, ValueError("broken"), "failed", "ValueError: broken"),
        (24, KeyboardInterrupt(), "stopped", None),
        (24, Stopped(15, "by SIGTERM", "resume"), "stopped", None),
    ],
)
def test_final_state(
    tmp_path: Path, done: int, error: BaseException | None, final: str, message: str | None
) -> None:
    with suppress(ValueError, KeyboardInterrupt, Stopped), make_logger(tmp_path) as logger:
        logger.log_step(record(done))
        if error:
            raise error
    assert state(tmp_path, "error") == [final, done, message]


def test_a_state_is_kept_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), make_logger(tmp_path) as logger:
        logger.set_state("stopped", step=7)
        raise ValueError("broken")
    assert state(tmp_path) == ["stopped", 7]


def test_an_error_is_not_hidden_by_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match="broken"), make_logger(folder):
        (folder / run_state.NAME).unlink()
        folder.rmdir()
        raise ValueError("broken")
