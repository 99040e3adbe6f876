"""A signal lets the step end; data workers live until their parent has done with them."""

import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ffreid import report
from ffreid.engine import signals
from ffreid.engine.loading import stream
from ffreid.engine.signals import STOP_SIGNALS, Stopped, block_signals, catch_signals

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Handlers of our own around each test, which may be started with others or ignoring."""
    before = {kind: signal.signal(kind, unwatched) for kind in STOP_SIGNALS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def unwatched(number: int, _: Any) -> None:
    raise AssertionError(f"signal {number} reached nobody")


def stopped(kind: signal.Signals) -> Stopped:
    return Stopped(kind, "in an evaluation", "--resume auto")


def heard(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_the_first_signal_is_noted_and_told_once(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with catch_signals() as watch:
        signal.raise_signal(kind)
        assert watch.received is kind
        # Once from the terminal, once from torchrun.
        signal.raise_signal(kind)
    assert heard(capsys) == [
        f"{kind.name}: finishing this step and saving; once more exits at once"
    ]


def test_another_signal_after_the_first_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with catch_signals() as watch:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert watch.received is signal.SIGUSR1
    assert len(heard(capsys)) == 1


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_a_second_signal_exits_at_once(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    clock = iter([0.0, 1.9, 2.1])
    # Its own alone: what an earlier test has left to the garbage collector may look too.
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(SystemExit) as caught, catch_signals():
        for _ in range(3):
            signal.raise_signal(kind)
    assert caught.value.code == 128 + kind
    assert [line.partition(":")[0] for line in heard(capsys)] == [kind.name, f"{kind.name} again"]


def test_an_exit_at_once_leaves_the_line_of_a_live_display(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "_exit", lambda code: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("ffreid.engine.signals.SAME_WITHIN", -1.0)
    with catch_signals():
        signal.raise_signal(signal.SIGINT)
    again, line, *_ = capfd.readouterr().err.split("\n")
    assert again.startswith("SIGINT again")
    assert line == ""


DEAF = """
import hashlib, os, signal, threading, time
from ffreid.engine import signals as interrupt

def send():
    for _ in range(2):
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

interrupt.SAME_WITHIN = interrupt.PATIENCE = 0.1
with interrupt.catch_signals():
    threading.Thread(target=send, daemon=True).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_a_second_signal_ends_a_computation_during_which_no_handler_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130
    told = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert told == ["SIGINT", "SIGINT again"]


def test_one_process_alone_tells(capsys: pytest.CaptureFixture[str]) -> None:
    with catch_signals(verbose=False) as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.received is signal.SIGINT
    assert heard(capsys) == []


@pytest.mark.parametrize("error", [RuntimeError("reentrant call"), OSError(5, "no terminal")])
def test_a_signal_amid_a_write_or_without_a_terminal_is_noted(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(report, "log", fail)
    with catch_signals() as watch:
        signal.raise_signal(signal.SIGTERM)
        assert watch.received is signal.SIGTERM
    assert heard(capfd)[0].startswith("SIGTERM: finishing")


def test_handlers_are_as_before_afterwards() -> None:
    with pytest.raises(ZeroDivisionError), catch_signals():
        assert all(signal.getsignal(kind) is not unwatched for kind in STOP_SIGNALS)
        raise ZeroDivisionError
    assert all(signal.getsignal(kind) is unwatched for kind in STOP_SIGNALS)


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with catch_signals() as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.received is None


def test_another_thread_watches_nothing() -> None:
    found: list[Any] = []

    def watch() -> None:
        with catch_signals() as watch:
            found.append((watch.received, [signal.getsignal(kind) for kind in STOP_SIGNALS]))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(None, [unwatched] * 3)]


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_where_all_is_saved_a_signal_stops_at_once(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with catch_signals() as watch:
        with pytest.raises(Stopped) as caught, watch.stop_immediately(stopped):
            signal.raise_signal(kind)
        assert (caught.value.signal, caught.value.message) == (kind, "in an evaluation")
        assert watch.received is kind
    assert heard(capsys) == []


def test_where_all_is_saved_an_earlier_signal_stops_too() -> None:
    entered = False
    with catch_signals() as watch:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="in an evaluation"), watch.stop_immediately(stopped):
            entered = True
    assert not entered


def test_a_signal_while_stopping_does_not_stop_once_more() -> None:
    with (
        catch_signals() as watch,
        pytest.raises(Stopped) as caught,
        watch.stop_immediately(stopped),
    ):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
    assert caught.value.signal == signal.SIGINT


def test_after_an_evaluation_signals_are_noted_again() -> None:
    with catch_signals() as watch:
        with watch.stop_immediately(stopped):
            pass
        signal.raise_signal(signal.SIGINT)
        assert watch.received is signal.SIGINT


def test_what_stopped_a_run_travels_between_processes() -> None:
    sent = pickle.loads(pickle.dumps(stopped(signal.SIGTERM)))
    assert (type(sent), sent.signal) == (Stopped, signal.SIGTERM)
    assert (sent.message, sent.hint) == ("in an evaluation", "--resume auto")


def test_signals_are_put_off_and_come_afterwards() -> None:
    with catch_signals() as watch:
        with block_signals():
            signal.raise_signal(signal.SIGINT)
            inside = watch.received
        assert (inside, watch.received) == (None, signal.SIGINT)


def test_watching_needs_no_torch() -> None:
    code = "import sys, ffreid.engine.signals; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


class Numbers:
    """Item `key` is (key, the process that made it); the key -1 never comes."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: int) -> tuple[int, int]:
        while key == -1:
            signal.pause()
        return key, os.getpid()


def batches(*keys: int) -> Iterator[list[tuple[int, int]]]:
    return stream(Numbers(), [[key] for key in keys], list, workers=1)


def sent_from_elsewhere(pid: int, *kinds: signal.Signals) -> None:
    for kind in kinds:
        subprocess.run(["kill", f"-{kind.value}", str(pid)], check=True)


def test_a_data_worker_outlives_what_is_sent_to_all_processes() -> None:
    found = batches(*range(8))
    (_, worker), *_ = next(found)
    sent_from_elsewhere(worker, *STOP_SIGNALS, *STOP_SIGNALS)
    rest = [item for batch in found for item in batch]
    assert rest == [(key, worker) for key in range(1, 8)]


def test_a_data_worker_amid_a_sample_is_ended_by_its_parent() -> None:
    found = batches(0, -1, -1, -1)
    next(found)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0


def ends(work: Callable[[], None]) -> int | None:
    """Exit code of a process that calls `work`, and of which no worker is left then."""
    reading, writing = os.pipe()
    # Every process forked from here holds the other end, until it ends.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    os.close(writing)
    process.join(30)
    assert select.select([reading], [], [], 30)[0]
    os.close(reading)
    return process.exitcode


def leave() -> None:
    """Come to the end of a process that has a worker amid a sample."""
    globals()["kept"] = found = batches(0, -1, -1, -1)
    next(found)


def die() -> None:
    """Be killed with a worker amid a sample."""
    leave()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("work", "code"), [(leave, 0), (die, -signal.SIGKILL)])
def test_a_data_worker_amid_a_sample_ends_with_its_parent(
    work: Callable[[], None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "WAKE", 0.05)
    assert ends(work) == code


def test_a_data_worker_can_be_ended_where_signals_do_not_tell_their_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(signal, "sigtimedwait")  # as on macOS
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with block_signals():
            signals.ignore_signals_in_worker()
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert {signal.SIGINT, signal.SIGUSR1} <= blocked
    assert signal.SIGTERM not in blocked


def hand_over(error: Exception) -> None:
    """As multiprocessing's thread that gives a worker's tensors away."""
    sys.excepthook = sys.__excepthook__  # torch.distributed puts a name before it
    signals.ignore_signals_in_worker()
    sys.excepthook(type(error), error, None)


@pytest.mark.parametrize(
    ("error", "said"), [(ConnectionResetError("peer"), ""), (KeyError("mine"), "KeyError: 'mine'")]
)
def test_a_data_worker_whose_parent_was_killed_says_nothing(
    error: Exception, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = multiprocessing.get_context("fork").Process(target=hand_over, args=(error,))
    worker.start()
    worker.join()
    assert capfd.readouterr().err.strip() == said
