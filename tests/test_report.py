"""Tables show every digit whatever the terminal; JSON files can be read by every parser."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffreid import atomic, report
from ffreid.errors import UserError


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


@pytest.mark.parametrize("columns", ["20", "80"])
def test_numbers_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    names = [f"a measure of number {index}" for index in range(20)]
    row = [1234567.891 + index for index in range(20)]
    report.show_table("wide", names, [row, [None, *row[1:]]], digits=3)
    lines = shown(capsys)
    assert lines[-2].split() == [f"{value:.3f}" for value in row]
    assert lines[-1].split() == ["-", *(f"{value:.3f}" for value in row[1:])]
    assert all(name in lines[1] for name in names)
    assert not any("…" in line for line in lines)


def test_cells_are_rounded_and_absent_values_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_table(
        "t", ["name", "x", "n"], [["a", 1.005, 3], ["b", None, 12], ["c", math.nan, 0]]
    )
    rows = [line.split() for line in shown(capsys)[-3:]]
    assert rows == [["a", "1.00", "3"], ["b", "-", "12"], ["c", "-", "0"]]


def test_a_table_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_table("nothing", ["frame", "error"], [])
    assert "frame" in "".join(shown(capsys))


def test_names_in_brackets_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_table("t", ["name"], [["[red]can[/red]"]])
    assert shown(capsys)[-1].strip() == "[red]can[/red]"


def test_a_long_title_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a title of many words " * 8
    report.show_table(title.strip(), ["x"], [[1]])
    assert shown(capsys)[0].strip() == title.strip()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([[1.5]]), [[1.5]]),
        ((1, "a", None), [1, "a", None]),
        (float("nan"), None),
        (np.array([1.0, np.inf]), [1.0, None]),
        ({1: -math.inf}, {"1": None}),
        (Path("a/b"), "a/b"),
        (True, True),
    ],
)
def test_values_become_plain_data(value: Any, expected: Any) -> None:
    found = atomic.plain(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


def test_json_is_written_unrounded_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    atomic.write_json(path, {"error": 0.1 + 0.2, "absent": float("nan")})
    assert json.loads(path.read_text()) == {"error": 0.1 + 0.2, "absent": None}


def test_a_json_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/results\.json") as caught:
        atomic.write_json(tmp_path / "file" / "results.json", {})
    assert "--json" in caught.value.hint


def test_a_kill_while_json_is_written_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    atomic.write_json(path, {"step": 1})
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}


def test_json_goes_through_a_link_and_into_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target.json")
    atomic.write_json(link, {"step": 1})
    assert link.is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == {"step": 1}
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic.write_json(pipe, {"step": 2})
    assert json.loads(os.read(reading, 100)) == {"step": 2}
    os.close(reading)
    assert pipe.is_fifo()


def test_proving_that_a_file_can_be_written_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    atomic.check_writable(tmp_path / "old")
    atomic.check_writable(tmp_path / "new")
    assert (tmp_path / "old").read_text() == "kept"
    assert not (tmp_path / "new").exists()
