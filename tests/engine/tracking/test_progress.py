"""Progress is a bar on a terminal and a line every 10 seconds elsewhere; no number is cut off."""

import math
import re
import sys
from io import StringIO
from mmap import mmap
from pathlib import Path

import pytest
from rich.console import Console

from ffreid import report
from ffreid.engine.task import Best
from ffreid.engine.tracking import progress
from ffreid.engine.tracking.progress import WINDOW, ProgressBar, TrainingProgress, memory
from tests.engine.example_runs import PLAN, record


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, constant until it is set."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def make_terminal(monkeypatch: pytest.MonkeyPatch, kind: str = "xterm") -> StringIO:
    """Make stderr a terminal of 80 columns; not a fixture, as pytest replaces stderr after it."""
    stream = StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", kind)
    return stream


def trained(*losses: float, done: int = 0) -> TrainingProgress:
    """A run after a step with each of the losses."""
    run = TrainingProgress(PLAN, done=done)
    for number, loss in enumerate(losses, done + 1):
        run.step(record(number, loss))
    return run


def full_run() -> TrainingProgress:
    """A run with many losses, a validation and a skipped step."""
    run = TrainingProgress(PLAN)
    terms = {"loss": 1234.5678, "[bold]": 1.0} | {
        f"a loss of number {index}": 0.1234 for index in range(9)
    }
    run.step(record(11, terms=terms, skipped="loss is nan"))
    run.validation = (10, {f"protocol {index} rank-1": index / 10 for index in range(10)})
    run.best = Best(name="protocol 9 rank-1", value=0.9, step=10)
    return run


def rendered(run: ProgressBar, width: int) -> list[str]:
    file = StringIO()
    Console(width=width, force_terminal=True, file=file, color_system=None).print(run.render())
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_every_number_is_shown(width: int) -> None:
    lines = rendered(full_run(), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    parts = """11/25; epoch 2/3; ETA 0:00:14; loss 1234.5678; net 1.0e-03; clothes 3.5e-04
        1 steps/s; 8 samples/s; waiting for data 25%; validation step 10: protocol 9 rank-1 0.9000
        and 2 more; best protocol 9 rank-1 0.9000 at step 10; skipped 1; [bold] 1.0000"""
    missing = [part for part in re.split(r"; |\n *", parts) if part not in text]
    assert missing == []
    assert all(f"a loss of number {index} 0.1234" in text for index in range(9))
    assert "…" not in text


def test_the_lines_of_a_log_have_all_numbers(clock: list[float]) -> None:
    assert re.fullmatch(
        r"training: 11/25, epoch 2/3, elapsed 0:00:00, ETA 0:00:14, loss 0\.5000, pair 0\.1250, "
        r"lr clothes 3\.5e-04, lr net 1\.0e-03, 1 steps/s, 8 samples/s, waiting for data 25%"
        r"(, memory \d+\.\d GB)?",
        trained(0.5, done=10).line(),
    )


def test_losses_are_means_of_the_last_finite_values_and_high_speeds_are_integers() -> None:
    run = trained(*([100.0] * 3 + [1.0, 3.0] * (WINDOW // 2)))
    assert run.metrics()["train"] == ["loss 2.0000", "pair 0.5000"]
    assert trained(1.0, math.nan, 3.0).metrics()["train"][0] == "loss 2.0000"
    assert trained(math.inf).metrics()["train"][0] == "loss nan"
    run = TrainingProgress(PLAN)
    run.step(record(1, waited=0.0, seconds=0.0008))
    assert run.metrics()["speed"][:2] == ["1250 steps/s", "10000 samples/s"]


@pytest.mark.parametrize(("done", "epoch"), [(0, 1), (10, 2), (25, 3)])
def test_a_resumed_run_shows_its_step_and_epoch_before_the_first_batch(
    done: int, epoch: int
) -> None:
    lines = rendered(trained(done=done), 80)
    assert f"{done}/25 epoch {epoch}/3" in " ".join(lines[0].split())
    assert lines[1].split() == ["train", "waiting", "for", "the", "first", "batch"]


def test_without_a_terminal_a_line_is_printed_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with ProgressBar("evaluating") as bar:
        for clock[0] in range(1, 16):
            bar.advance()
        for clock[0] in range(16, 26):
            bar.update(int(clock[0]), 30)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "evaluating: 10, elapsed 0:00:10",
        "evaluating: 20/30, elapsed 0:00:20, ETA 0:00:10",
    ]
    assert printed.out == ""


def test_a_bar_is_redrawn_four_times_per_second_at_most(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = make_terminal(monkeypatch)
    with trained() as run:
        run.start()
        for done in range(1, 21):
            clock[0] = 100 + done / 10
            run.step(record(done))
        assert 1 < terminal.getvalue().count("training") <= 1 + 2 / progress.REFRESH_EVERY


def test_messages_are_printed_above_the_bar_and_results_to_their_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", results := StringIO())
    with trained() as run:
        run.start()
        run.step(record(1))
        report.log("a message [in brackets]")
        sys.stdout.write("a result\n")
    assert sys.stderr is terminal
    text = terminal.getvalue()
    assert text.index("a message [in brackets]") < text.rindex("training")
    assert results.getvalue() == "a result\n"
    assert "a result" not in text


def test_an_erased_bar_is_not_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    with trained() as run:
        run.start()
        run.stop(erase=True)
        erased = len(terminal.getvalue())
        assert sys.stderr is terminal
        run.step(record(1))
        assert len(terminal.getvalue()) == erased
        run.start()
        assert "1/25" in terminal.getvalue()[erased:]


def test_the_cursor_stays_visible_and_ctrl_c_fits_behind_the_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrapped, it would move the cursor, and a part of the bar would stay on the terminal."""
    terminal = make_terminal(monkeypatch)
    with trained(0.5) as run:
        run.start()
        text = terminal.getvalue()
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    text = re.sub(r"\x1b\[[\d;?]*\w", "", terminal.getvalue())
    assert 70 < max(map(len, re.split(r"[\r\n]+", text))) <= 78


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = make_terminal(monkeypatch, "dumb")
    run = trained()
    run.start()
    clock[0] = 10.0
    run.step(record(1))
    assert terminal.getvalue().startswith("training: 1/25, epoch 1/3, ")
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is known on Linux only")
def test_memory_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def resident() -> float:
        return float(next(memory()).split()[1])

    before = resident()
    block = mmap(-1, 300_000_000)  # new memory, not reused from earlier allocations
    block.write(b"x" * len(block))
    assert resident() > before + 0.15
    block.close()
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert list(memory()) == []
