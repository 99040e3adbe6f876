"""Nothing that is shown is cut at any width; without a terminal there are plain lines."""

import re
import sys
from io import StringIO

import pytest
from rich.console import Console

from ffreid import report
from ffreid.engine.tracking import progress
from ffreid.engine.tracking.progress import (
    Best,
    LiveDisplay,
    Panel,
    PlainDisplay,
    Recent,
    clock,
    make_display,
    plain_line,
)
from tests.engine.example_runs import PLAN, record


def whole() -> Recent:
    """A run with many losses, an evaluation and a skipped step."""
    found = Recent(title="training", plan=PLAN)
    terms = {"loss": 1234.5678} | {f"a term of number {index}": 0.1234 for index in range(9)}
    found.add(record(11, terms=terms, skipped="loss is nan"))
    found.validated = (10, {f"protocol {index} rank-1": index / 10 for index in range(10)})
    found.best = Best(name="protocol 9 rank-1", value=0.9, step=10)
    return found


def drawn(recent: Recent, width: int) -> list[str]:
    file = StringIO()
    console = Console(width=width, force_terminal=True, file=file, color_system=None)
    console.print(Panel(recent))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [24, 80, 200])
def test_every_number_is_shown_at_any_width(width: int) -> None:
    lines = drawn(whole(), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in ("11/25", "epoch 2/3", "loss 1234.5678", "lr 1.0e-03", "lr clothes 3.5e-04"):
        assert part in text
    for part in ("1 steps/s (8 samples/s)", "waiting for data 25 %", "ETA 0:14", "skipped 1"):
        assert part in text
    assert all(f"a term of number {index} 0.1234" in text for index in range(9))
    assert "validated at 10 protocol 9 rank-1 0.9000" in text
    assert "and 2 more" in text
    assert "best protocol 9 rank-1 0.9000 at 10" in text
    assert "…" not in text


def test_a_wide_terminal_shows_fewer_lines() -> None:
    assert len(drawn(whole(), 200)) < len(drawn(whole(), 80))


@pytest.mark.parametrize(("done", "share"), [(0, 0.0), (11, 0.44), (25, 1.0)])
def test_the_bar_is_as_full_as_the_run(done: int, share: float) -> None:
    (line, *_) = drawn(Recent(title="training", plan=PLAN, done=done), 80)
    bar = re.search("[━─]+", line)
    assert bar is not None
    assert bar[0].count("━") == int(share * len(bar[0]))


def test_before_the_first_step_a_run_waits_for_its_batch() -> None:
    lines = drawn(Recent(title="training", plan=PLAN, done=5), 80)
    assert "5/25" in lines[0]
    assert lines[1:] == ["waiting for the first batch"]


def test_a_plain_line_says_all_in_one() -> None:
    recent = Recent(title="training", plan=PLAN)
    recent.add(record(11))
    assert re.fullmatch(
        r"training: 11/25, epoch 2/3, 1 steps/s, loss 0\.5000 \(pair 0\.1250\), "
        r"lr clothes 3\.5e-04, lr 1\.0e-03, data 25 %, (\d+\.\d GB, )?ETA 0:14",
        plain_line(recent),
    )


def test_plain_lines_are_said_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = PlainDisplay(Recent(title="training", plan=PLAN))
    shown.start()
    for done in range(1, 26):
        now[0] = float(done)
        shown.step(record(done))
    shown.stop()
    heard = capsys.readouterr()
    assert [line.split(",")[0] for line in heard.err.splitlines()] == [
        "training: 10/25",
        "training: 20/25",
    ]
    assert heard.out == ""


def a_terminal(monkeypatch: pytest.MonkeyPatch, kind: str = "xterm") -> StringIO:
    """Make stderr a terminal of 80 columns; in a fixture it would be pytest's again by now."""
    stream = StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", kind)
    return stream


def test_a_display_is_drawn_a_few_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    shown.start()
    for done in range(1, 21):
        now[0] = 100 + done / 10
        shown.step(record(done))
    drawings = terminal.getvalue().count("training")
    assert 1 < drawings <= 1 + 2 / progress.LIVE_EVERY
    shown.stop()


def test_lines_said_meanwhile_stand_above_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    assert isinstance(shown, LiveDisplay)
    shown.start()
    shown.step(record(1))
    report.log("a word [in brackets]")
    shown.stop()
    assert sys.stderr is terminal
    text = terminal.getvalue()
    assert text.index("a word [in brackets]") < text.rindex("training")


def test_a_paused_display_leaves_the_terminal_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    shown.start()
    shown.pause()
    paused = len(terminal.getvalue())
    assert sys.stderr is terminal
    shown.step(record(1))
    assert len(terminal.getvalue()) == paused
    shown.start()
    assert "1/25" in terminal.getvalue()[paused:]
    shown.stop()


def test_the_cursor_is_left_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    shown.start()
    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    shown.stop()


def test_results_that_go_to_a_file_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    results = StringIO()
    monkeypatch.setattr(sys, "stdout", results)
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    shown.start()
    sys.stdout.write("a result\n")
    shown.stop()
    assert results.getvalue() == "a result\n"
    assert "a result" not in terminal.getvalue()
    assert "training" in terminal.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_terminal(monkeypatch, "dumb")
    shown = make_display(Recent(title="training", plan=PLAN), show=True)
    assert isinstance(shown, PlainDisplay)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0:00"), (59.6, "1:00"), (3723, "1:02:03"), (90061, "1 d 1:01:01")],
)
def test_time_is_written_as_people_do(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text
