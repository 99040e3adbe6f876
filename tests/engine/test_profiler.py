"""Profiles of training steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.profiler import SHOWN, WARM_UP, most_expensive, profile_steps
from ffreid.errors import UserError


def steps(folder: Path, count: int, run: int) -> list[str]:
    """Profile `count` of `run` steps; give the names of the steps in the trace."""
    weight = torch.ones(20, 20)
    with profile_steps(count, folder) as step:
        for _ in range(run):
            weight = weight @ weight / 20
            step()
    path = folder / "profile" / "trace.json"
    events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    assert all(value == 1.0 for value in weight.flatten())
    return [event["name"] for event in events if event["name"] == "aten::mm"]


@pytest.mark.parametrize(("run", "recorded"), [(WARM_UP + 5, 3), (WARM_UP + 2, 2)])
def test_steps_after_the_warm_up_are_recorded_as_far_as_they_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: int, recorded: int
) -> None:
    assert len(steps(tmp_path, 3, run)) == recorded
    heard = capsys.readouterr()
    assert f"Most expensive operations of {recorded} training steps\n" in heard.out
    (row,) = [line.split() for line in heard.out.splitlines() if "aten::mm" in line]
    assert row[:2] == ["aten::mm", "1.00"]
    assert f"profile: {tmp_path / 'profile' / 'trace.json'}" in heard.err


@pytest.mark.parametrize("run", range(WARM_UP + 1))
def test_a_run_that_ends_in_the_warm_up_says_that_nothing_was_profile_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: int
) -> None:
    with profile_steps(3, tmp_path) as step:
        for _ in range(run):
            step()
    heard = capsys.readouterr()
    assert heard.out == ""
    assert f"{WARM_UP} steps warm up, and only {run} were run\n" in heard.err
    assert not list((tmp_path / "profile").iterdir())


def test_zero_steps_write_and_print_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with profile_steps(0, tmp_path) as step:
        for _ in range(4):
            step()
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_failing_run_keeps_its_error_and_what_was_recorded(tmp_path: Path) -> None:
    def fail(step: Callable[[], None]) -> None:
        for _ in range(WARM_UP + 1):
            torch.ones(3).sum()
            step()
        raise ValueError("the run's own")

    with pytest.raises(ValueError, match="the run's own"), profile_steps(9, tmp_path) as step:
        fail(step)
    assert (tmp_path / "profile" / "trace.json").is_file()
    steps(tmp_path / "again", 1, 4)  # the profiler was stopped: another can start


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("a file")
    with (
        pytest.raises(UserError, match=f"cannot write {tmp_path}") as caught,
        profile_steps(1, tmp_path),
    ):
        pass
    assert "--output" in caught.value.hint


class Event:
    """What the profiler says of an operation, as far as it is read."""

    def __init__(self, key: str, count: int, cpu: float, device: float) -> None:
        self.key, self.count = key, count
        self.self_cpu_time_total, self.self_device_time_total = cpu, device


EVENTS: Any = [
    Event("ProfilerStep*", 2, 9e9, 9e9),
    Event("mm", 6, 1000.0, 6000.0),
    Event("add", 2, 3000.0, 2000.0),
]


def test_operations_are_sorted_by_self_time() -> None:
    columns, rows = most_expensive(EVENTS, 2, on_device=False)
    assert columns == ["operation", "calls a step", "CPU ms a step", "share %"]
    assert rows == [["add", 1.0, 1.5, 75.0], ["mm", 3.0, 0.5, 25.0]]


def test_with_a_device_operations_are_sorted_by_its_time() -> None:
    columns, rows = most_expensive(EVENTS, 2, on_device=True)
    assert columns[2:] == ["device ms a step", "CPU ms a step", "share %"]
    assert rows == [["mm", 3.0, 3.0, 0.5, 75.0], ["add", 1.0, 1.0, 1.5, 25.0]]


def test_only_the_most_expensive_are_shown() -> None:
    many: Any = [Event(str(number), 1, float(number), 0.0) for number in range(100)]
    _, rows = most_expensive(many, 1, on_device=False)
    assert [row[0] for row in rows] == [str(number) for number in range(99, 99 - SHOWN, -1)]
