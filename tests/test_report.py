"""Tables show every digit whatever the terminal."""

import math

import pytest

from ffreid import report


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


def test_values_are_rounded_and_missing_ones_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_table(
        "t", ["name", "x", "n"], [["a", 1.005, 3], ["b", None, 12], ["c", math.nan, 0]]
    )
    rows = [line.split() for line in shown(capsys)[-3:]]
    assert rows == [["a", "1.00", "3"], ["b", "-", "12"], ["c", "-", "0"]]


def test_a_table_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_table("nothing", ["frame", "error"], [])
    assert "frame" in "".join(shown(capsys))


def test_long_titles_and_names_in_brackets_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = "a title of many words " * 8
    report.show_table(title.strip(), ["name"], [["[red]can[/red]"]])
    lines = [line.strip() for line in shown(capsys)]
    assert (lines[0], lines[-1]) == (title.strip(), "[red]can[/red]")


def test_names_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[2J\x1b]0;title\x07\nhint: run rm"
    report.show_table(name, [name, "x"], [[name, 1], ["a :cat:", 2]])
    report.log(f"note: {name}", "next")
    report.log("a" * 10**6)
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in out.split("\n"))
    assert out.count(r"\x1b[2J\x1b]0;title\x07\nhint: run rm") == 3
    assert "a :cat:" in out
    note, second, long, end = err.split("\n")
    assert note == r"note: \x1b[2J\x1b]0;title\x07\nhint: run rm"
    assert (second, len(long), end) == ("next", 2000, "")
