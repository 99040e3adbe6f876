"""Profiles of training steps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ffreid.engine.profiler import SHOWN, WARM_UP, most_expensive, profile_steps
from ffreid.errors import UserError


def run(folder: Path, count: int, steps: int, error: Exception | None = None) -> None:
    """Profile `count` of `steps` steps of one matrix product each."""
    with profile_steps(count, folder) as step:
        for _ in range(steps):
            torch.ones(3, 3) @ torch.ones(3, 3)
            step()
        if error is not None:
            raise error


def products(folder: Path) -> int:
    """Number of matrix products in the trace."""
    events = json.loads((folder / "profile/trace.json").read_text())["traceEvents"]
    return sum(event["name"] == "aten::mm" for event in events)


@pytest.mark.parametrize(("steps", "recorded"), [(WARM_UP + 5, 3), (WARM_UP + 2, 2)])
def test_steps_after_the_warm_up_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int, recorded: int
) -> None:
    run(tmp_path, 3, steps)
    assert products(tmp_path) == recorded
    printed = capsys.readouterr()
    assert f"Most expensive operations of {recorded} training steps\n" in printed.out
    (row,) = [line.split() for line in printed.out.splitlines() if "aten::mm" in line]
    assert row[:2] == ["aten::mm", "1.00"]
    assert f"profile: {tmp_path / 'profile' / 'trace.json'}" in printed.err


WARM_UP_ONLY = f"nothing was profiled: {WARM_UP} steps are warm-up, and only {{}} ran\n"


@pytest.mark.parametrize(
    ("count", "steps", "message"),
    [(3, 0, WARM_UP_ONLY), (3, WARM_UP, WARM_UP_ONLY), (0, WARM_UP + 2, "")],
)
def test_zero_steps_and_a_run_that_ends_in_the_warm_up_profile_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, steps: int, message: str
) -> None:
    run(tmp_path, count, steps)
    assert capsys.readouterr() == ("", message.format(steps))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_failing_run_keeps_its_error_and_what_was_recorded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the run"):
        run(tmp_path, 9, WARM_UP + 1, ValueError("of the run"))
    assert products(tmp_path) == 1
    run(tmp_path / "again", 1, 4)  # the profiler was stopped: another can start


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("a file")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}") as caught:
        run(tmp_path, 1, 0)
    assert "--output" in caught.value.hint


def event(key: str, count: int, cpu: float, device: float) -> Any:
    return SimpleNamespace(
        key=key, count=count, self_cpu_time_total=cpu, self_device_time_total=device
    )


def test_operations_are_sorted_by_self_time_of_the_device_if_there_is_one() -> None:
    events = [
        event("ProfilerStep*", 2, 9e9, 9e9),
        event("mm", 6, 1000.0, 6000.0),
        event("add", 2, 3000.0, 2000.0),
    ]
    columns, rows = most_expensive(events, 2, on_device=False)
    assert columns == ["operation", "calls per step", "CPU ms per step", "share %"]
    assert rows == [["add", 1.0, 1.5, 75.0], ["mm", 3.0, 0.5, 25.0]]
    columns, rows = most_expensive(events, 2, on_device=True)
    assert columns[2:] == ["device ms per step", "CPU ms per step", "share %"]
    assert rows == [["mm", 3.0, 3.0, 0.5, 75.0], ["add", 1.0, 1.0, 1.5, 25.0]]
    many = [event(str(number), 1, float(number), 0.0) for number in range(100)]
    _, rows = most_expensive(many, 1, on_device=False)
    assert [row[0] for row in rows] == [str(number) for number in range(99, 99 - SHOWN, -1)]
