"""A signal lets the step finish and be saved; data workers live until their parent ends them."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ffreid import report
from ffreid.engine import signals
from ffreid.engine.loading import stream
from ffreid.engine.signals import STOP_SIGNALS, SignalCatcher, Stopped, block_signals, catch_signals
from tests.engine.checkpoints.test_manager import raising


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Known handlers around each test: the tests may have been started ignoring signals."""
    before = {kind: signal.signal(kind, uncaught) for kind in STOP_SIGNALS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def uncaught(number: int, _: Any) -> None:
    raise AssertionError(f"signal {number} was not caught")


def stopped(kind: signal.Signals) -> Stopped:
    return Stopped(kind, "in an evaluation", "--resume auto")


def messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_the_first_signal_is_stored_and_reported_once(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with catch_signals() as caught:
        signal.raise_signal(kind)
        assert caught.received is kind
        signal.raise_signal(kind)  # once from the terminal, once from torchrun
        signal.raise_signal(signal.SIGTERM)
        assert caught.received is kind
    assert messages(capsys) == [
        f"{kind.name}: saving a checkpoint after this step; repeat to exit immediately"
    ]


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_a_second_signal_exits_at_once_below_a_live_display(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(signals, "SAME_WITHIN", 0.0)
    with catch_signals():
        signal.raise_signal(kind)
        signal.raise_signal(kind)
    assert codes == [128 + kind]
    starts = [line.partition(":")[0] for line in messages(capsys)]
    assert starts == [kind.name, f"{kind.name} again", ""]


COMPUTATION = """
import hashlib, os, signal, threading, time
from ffreid.engine import signals

def send():
    for _ in range(2):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

signals.SAME_WITHIN = 0.1
with signals.catch_signals():
    threading.Thread(target=send, daemon=True).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_a_second_signal_ends_a_computation_during_which_no_handler_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPUTATION], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130
    starts = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert starts == ["SIGINT", "SIGINT again"]


@pytest.mark.parametrize("reports", [False, True])
def test_a_signal_is_stored_without_a_terminal_and_in_processes_that_report_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reports: bool
) -> None:
    if reports:
        monkeypatch.setattr(report, "log", raising(OSError(5, "no terminal")))
    with catch_signals(SignalCatcher(should_report=lambda: reports)) as caught:
        signal.raise_signal(signal.SIGTERM)
        assert caught.received is signal.SIGTERM
    assert messages(capsys) == []


def test_handlers_are_restored_and_ignored_signals_stay_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(ZeroDivisionError), catch_signals() as caught:
        signal.raise_signal(signal.SIGINT)
        assert caught.received is None
        assert signal.getsignal(signal.SIGTERM) is not uncaught
        raise ZeroDivisionError
    handlers = [signal.getsignal(kind) for kind in STOP_SIGNALS]
    assert handlers == [signal.SIG_IGN, uncaught, uncaught]


def test_another_thread_catches_nothing() -> None:
    handlers: list[Any] = []

    def catch() -> None:
        with catch_signals():
            handlers.extend(signal.getsignal(kind) for kind in STOP_SIGNALS)

    thread = threading.Thread(target=catch)
    thread.start()
    thread.join()
    assert handlers == [uncaught] * 3


@pytest.mark.parametrize("kind", STOP_SIGNALS)
def test_where_all_is_saved_a_signal_stops_immediately(
    kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with catch_signals() as caught:
        with pytest.raises(Stopped) as error, caught.stop_immediately(stopped):
            signal.raise_signal(kind)
        assert (error.value.signal, error.value.message) == (kind, "in an evaluation")
        assert caught.received is kind
    assert messages(capsys) == []


def test_where_all_is_saved_an_earlier_signal_stops_too() -> None:
    with catch_signals() as caught:
        with caught.stop_immediately(stopped):
            pass
        signal.raise_signal(signal.SIGTERM)
        assert caught.received is signal.SIGTERM
        with pytest.raises(Stopped, match="in an evaluation"), caught.stop_immediately(stopped):
            raise AssertionError("the block was entered")


def test_a_signal_while_stopping_does_not_stop_again() -> None:
    with (
        catch_signals() as caught,
        pytest.raises(Stopped) as error,
        caught.stop_immediately(stopped),
    ):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
    assert error.value.signal == signal.SIGINT


def test_blocked_signals_arrive_afterwards() -> None:
    with catch_signals() as caught:
        with block_signals():
            signal.raise_signal(signal.SIGINT)
            inside = caught.received
        assert (inside, caught.received) == (None, signal.SIGINT)


class Numbers:
    """Item `key` is (key, process id of the worker); the key -1 never returns."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: int) -> tuple[int, int]:
        while key == -1:
            signal.pause()
        return key, os.getpid()


def batches(*keys: int) -> Iterator[list[tuple[int, int]]]:
    return stream(Numbers(), [[key] for key in keys], list, workers=1)


def test_a_data_worker_survives_signals_sent_to_all_processes() -> None:
    results = batches(*range(8))
    (_, worker), *_ = next(results)
    for kind in STOP_SIGNALS * 2:  # from another process
        subprocess.run(["kill", f"-{kind.value}", str(worker)], check=True)
    rest = [item for batch in results for item in batch]
    assert rest == [(key, worker) for key in range(1, 8)]


def exit_code_of(work: Callable[[], None]) -> int | None:
    """Exit code of a process that calls `work`, once all of its workers have ended too."""
    reading, writing = os.pipe()
    # Every process forked from here holds the writing end open until it ends.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    os.close(writing)
    process.join(30)
    assert select.select([reading], [], [], 30)[0]
    os.close(reading)
    return process.exitcode


def leave() -> None:
    """Finish with a busy worker."""
    globals()["alive"] = results = batches(0, -1, -1, -1)
    next(results)


def die() -> None:
    """Be killed with a busy worker."""
    leave()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("work", "code"), [(leave, 0), (die, -signal.SIGKILL)])
def test_a_busy_data_worker_ends_with_its_parent(
    work: Callable[[], None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "PARENT_CHECK", 0.05)
    assert exit_code_of(work) == code


def test_a_data_worker_can_be_ended_where_signals_have_no_sender(
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


def fail_in_thread(error: Exception) -> None:
    """Fail as multiprocessing's thread that sends tensors."""
    sys.excepthook = sys.__excepthook__  # torch.distributed prefixes the rank
    signals.ignore_signals_in_worker()
    sys.excepthook(type(error), error, None)


@pytest.mark.parametrize(
    ("error", "text"), [(ConnectionResetError("peer"), ""), (KeyError("mine"), "KeyError: 'mine'")]
)
def test_a_data_worker_whose_parent_was_killed_reports_nothing(
    error: Exception, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = multiprocessing.get_context("fork").Process(target=fail_in_thread, args=(error,))
    worker.start()
    worker.join()
    assert capfd.readouterr().err.strip() == text
