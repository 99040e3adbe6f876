"""What a run tells stands in its files, of the first process alone."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ffreid.engine.signals import Stopped
from ffreid.engine.tracking import logger as module
from ffreid.engine.tracking import run_state
from ffreid.engine.tracking.logger import RunLogger
from ffreid.engine.tracking.progress import Best
from tests.engine.example_runs import PLAN, record


def opened(folder: Path, **more: Any) -> RunLogger:
    given: dict[str, Any] = {"main": True, "start": 0, "log_every": 10}
    return RunLogger(folder, PLAN, **given | more)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def told(folder: Path) -> dict[str, Any]:
    found = run_state.read(folder)
    assert found is not None
    return found


def test_a_row_has_the_losses_rates_norms_and_times(tmp_path: Path) -> None:
    with opened(tmp_path) as logger:
        logger.log_step(record(1))
    assert rows(tmp_path) == [
        {
            "step": 1,
            "epoch": 0,
            "lr": 1e-3,
            "lr/clothes": 3.5e-4,
            "seconds": 0.75,
            "waited": 0.25,
            "train/loss": 0.5,
            "train/pair": 0.125,
            "norm/net": 2.0,
        }
    ]


def test_rows_are_of_the_first_the_last_every_so_many_and_skipped_steps(tmp_path: Path) -> None:
    with opened(tmp_path) as logger:
        for done in range(1, 26):
            names = ("a.png",) if done == 13 else ()
            why = "loss is nan" if done == 13 else None
            loss = math.nan if done == 13 else 0.5
            logger.log_step(record(done, loss, skipped=why, names=names))
    found = rows(tmp_path)
    assert [row["step"] for row in found] == [1, 10, 13, 20, 25]
    assert [row.get("skipped") for row in found] == [None, None, "loss is nan", None, None]
    assert found[2]["train/loss"] is None
    assert found[2]["samples"] == ["a.png"]


def test_a_resumed_run_logs_the_rows_of_one_that_was_not(tmp_path: Path) -> None:
    for folder, starts in ((tmp_path / "whole", (0, 25)), (tmp_path / "parts", (0, 12, 25))):
        folder.mkdir()
        for start, end in pairwise(starts):
            with opened(folder, start=start) as logger:
                for done in range(start + 1, end + 1):
                    logger.log_step(record(done))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_evaluations_and_saves_have_rows_with_their_step(tmp_path: Path) -> None:
    with opened(tmp_path) as logger:
        logger.log_validation(10, {"loss": 0.25})
        logger.log_validation(10, {"loss": 0.125}, prefix="validation-ema")
        logger.log_checkpoint(10, "last.pth", seconds=1.5, megabytes=800.0)
    assert rows(tmp_path) == [
        {"step": 10, "validation/loss": 0.25},
        {"step": 10, "validation-ema/loss": 0.125},
        {"step": 10, "save/last.pth seconds": 1.5, "save/last.pth MB": 800.0},
    ]
    assert logger.recent.validated == (10, {"loss": 0.25})


def test_the_line_of_an_epoch_is_logged_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path) as logger:
        logger.log_epoch(0, "Epoch1 Time:1.0s", 1.0)
        logger.log_epoch(1, None, 1.0)
        logger.log("note: something")
    assert (tmp_path / "log_train.log").read_text() == "Epoch1 Time:1.0s\n"
    assert capsys.readouterr().err == "Epoch1 Time:1.0s\nnote: something\n"


def test_other_processes_write_and_show_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffreid.engine.tracking.progress.PLAIN_EVERY", 0.0)
    with opened(tmp_path, main=False, tensorboard=True) as logger:
        logger.log_step(record(1))
        logger.log_epoch(0, "Epoch1", 1.0)
        with logger.paused():
            logger.log_validation(10, {"loss": 0.25}, best=Best(name="loss", value=0.25))
        logger.log("a word")
        logger.log_checkpoint(10, "last.pth", seconds=1.5, megabytes=800.0)
        logger.set_state("running", more=1)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_run_is_running_while_it_lasts(tmp_path: Path) -> None:
    with opened(tmp_path, start=5) as logger:
        begun = told(tmp_path)
        logger.log_step(record(6))
        logger.log_validation(6, {"loss": 0.25}, best=Best(name="loss", value=0.25, step=6))
        going = told(tmp_path)
    assert (begun["state"], begun["step"], begun["total"]) == ("running", 5, 25)
    assert (going["state"], going["step"], going["best"], going["best_name"]) == (
        "running",
        6,
        0.25,
        "loss",
    )
    assert going["started"] == begun["started"]


def test_the_state_is_not_written_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    seen = []
    with opened(tmp_path) as logger:
        for done in range(1, 26):
            now[0] = done * module.STATE_EVERY / 10
            logger.log_step(record(done))
            seen.append(told(tmp_path)["step"])
    assert sorted(set(seen)) == [0, 10, 20]


@pytest.mark.parametrize(("done", "state"), [(24, "stopped"), (25, "finished")])
def test_a_run_has_finished_if_all_its_steps_are_done(
    tmp_path: Path, done: int, state: str
) -> None:
    with opened(tmp_path) as logger:
        logger.log_step(record(done))
    assert (told(tmp_path)["state"], told(tmp_path)["step"]) == (state, done)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("of mine"), "failed"),
        (KeyboardInterrupt(), "stopped"),
        (Stopped(15, "by SIGTERM", "go on"), "stopped"),
    ],
)
def test_a_run_that_was_left_by_an_error_says_so(
    tmp_path: Path, error: BaseException, state: str
) -> None:
    with pytest.raises(type(error)), opened(tmp_path):
        raise error
    found = told(tmp_path)
    assert found["state"] == state
    assert found.get("error") == ("ValueError: of mine" if state == "failed" else None)


def test_what_the_loop_says_of_its_end_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of mine"), opened(tmp_path) as logger:
        logger.set_state("stopped", step=7)
        raise ValueError("of mine")
    assert (told(tmp_path)["state"], told(tmp_path)["step"]) == ("stopped", 7)


def test_an_error_is_not_hidden_by_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match="of mine"), opened(folder):
        (folder / run_state.NAME).unlink()
        folder.rmdir()
        raise ValueError("of mine")
