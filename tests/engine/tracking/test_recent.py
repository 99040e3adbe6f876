"""The last steps are averaged, and what is no number does not spoil that."""

import math
import sys
from dataclasses import replace
from mmap import mmap
from pathlib import Path

import pytest

from ffreid.engine.tracking.progress import WINDOW, Recent, main_rate, memory
from tests.engine.example_runs import PLAN, record


def fed(*losses: float, done: int = 0) -> Recent:
    found = Recent(title="training", plan=PLAN, done=done)
    for number, loss in enumerate(losses, done + 1):
        found.add(record(number, loss))
    return found


def test_losses_are_means_over_the_last_steps() -> None:
    found = fed(*([100.0] * 3 + [1.0, 3.0] * (WINDOW // 2)))
    assert found.terms() == pytest.approx({"loss": 2.0, "pair": 0.5})


def test_a_step_without_a_number_does_not_spoil_the_mean() -> None:
    assert fed(1.0, math.nan, 3.0).terms()["loss"] == 2.0
    assert math.isnan(fed(math.inf).terms()["loss"])


def test_speed_waiting_and_time_to_go_are_of_the_whole_step() -> None:
    found = fed(1.0, 1.0)
    assert (found.speed(), found.waiting(), found.left()) == (1.0, 0.25, 23.0)


def test_before_the_first_step_nothing_is_known() -> None:
    found = fed()
    assert (found.speed(), found.waiting(), found.left(), found.terms()) == (None, 0.0, None, {})


@pytest.mark.parametrize(("done", "epoch"), [(0, 1), (10, 1), (11, 2), (25, 3)])
def test_epochs_are_counted_from_one(done: int, epoch: int) -> None:
    found = fed(*[1.0] * done)
    assert (found.epoch, found.epochs) == (epoch, 3)


@pytest.mark.parametrize(("start", "epoch"), [(10, 2), (25, 3)])
def test_a_resumed_run_begins_in_its_epoch(start: int, epoch: int) -> None:
    assert fed(done=start).epoch == epoch


def test_skipped_steps_are_counted() -> None:
    found = fed(1.0)
    found.add(replace(record(2), skipped="loss is nan"))
    assert found.skipped == 1


@pytest.mark.parametrize(
    ("rates", "name"), [({"clothes": 1, "net": 2}, "net"), ({"a": 1, "b": 2}, "a"), ({}, None)]
)
def test_one_part_stands_for_the_run(rates: dict[str, float], name: str | None) -> None:
    assert main_rate(rates) == name


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_is_that_of_this_process() -> None:
    # Mapped anew, whatever memory the process has kept from earlier work.
    held = mmap(-1, 200_000_000)
    before = memory()["memory"]
    held.write(b"x" * len(held))
    assert memory()["memory"] > before + 0.15
    held.close()


def test_memory_that_the_system_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert "memory" not in memory()
