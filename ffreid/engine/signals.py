"""Signals that stop a run after the current step is saved, and data workers that ignore them."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import parent_process
from types import FrameType
from typing import Any

from ffreid import report

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""Ctrl-C, the end of a job, and what SLURM's ``--signal=USR1@SECONDS`` sends before the end."""
SAME_WITHIN = 2.0
"""Seconds in which a repeated signal is the same one: torchrun forwards what a terminal sent."""
PARENT_CHECK = 1.0
"""Seconds between a data worker's checks that its parent is alive."""


class Stopped(Exception):
    """A run was stopped by a signal, after saving; the exit code is 128 + the signal's number."""

    def __init__(self, signal: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.signal, self.message, self.hint = signal, message, hint


class SignalCatcher:
    """What `catch_signals` has caught: the first signal is `received`.

    `should_report` is asked then whether this process reports it on stderr.
    """

    def __init__(self, *, should_report: Callable[[], bool] = lambda: True) -> None:
        self.received: signal.Signals | None = None
        self._should_report, self._pid = should_report, os.getpid()
        self._make_error: Callable[[signal.Signals], Stopped] | None = None
        self._has_raised = False

    @contextmanager
    def stop_immediately(self, make_error: Callable[[signal.Signals], Stopped]) -> Iterator[None]:
        """Raise an error from a signal received in the block or before: everything is saved."""
        previous, self._make_error = self._make_error, make_error
        try:
            if self.received is not None:
                raise make_error(self.received)
            yield
        finally:
            self._make_error = previous

    def handle(self, number: int, _: FrameType | None) -> None:
        """Store the first signal; in `stop_immediately`, raise."""
        if self.received is None and os.getpid() == self._pid:  # not in a fork
            self.received = signal.Signals(number)
            if self._make_error is not None:
                self._has_raised = True
                raise self._make_error(self.received)

    def listen(self, source: socket.socket) -> None:
        """Report the first signal and exit at the second one of a kind, in another thread.

        The main thread handles signals only between two computations, and several as one. The
        `source` yields the number of each signal, and 0 at the end.
        """
        first: dict[signal.Signals, float] = {}
        while number := source.recv(1)[0]:
            if number not in STOP_SIGNALS:
                continue
            kind, now = signal.Signals(number), time.monotonic()
            if not (first or self._make_error or self._has_raised):
                self._log(
                    f"{kind.name}: saving a checkpoint after this step; repeat to exit immediately"
                )
            if now - first.setdefault(kind, now) > SAME_WITHIN:
                self._log(
                    f"{kind.name} again: exiting immediately; resume from the last checkpoint with "
                    "--resume auto",
                    *[""] * sys.stderr.isatty(),  # below the display
                )
                os._exit(128 + kind)

    def _log(self, *lines: str) -> None:
        if self._should_report():
            with suppress(OSError, ValueError):  # the terminal may be gone
                report.log(*lines)


@contextmanager
def catch_signals(catcher: SignalCatcher | None = None) -> Iterator[SignalCatcher]:
    """Catch `STOP_SIGNALS`, which would end the process otherwise.

    Does nothing outside of the main thread, which alone receives signals in Python, and leaves a
    signal ignored that was ignored before, as in the background of a script.
    """
    catcher = catcher or SignalCatcher()
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {kind: signal.getsignal(kind) for kind in STOP_SIGNALS}
        handlers = {kind: old for kind, old in handlers.items() if old is not signal.SIG_IGN}
    try:
        for kind in handlers:
            signal.signal(kind, catcher.handle)
        with _listening(catcher) if handlers else nullcontext():
            yield catcher
    finally:
        for kind, old in handlers.items():
            # None is a handler that was not set by Python, which cannot set it again.
            signal.signal(kind, signal.SIG_DFL if old is None else old)


@contextmanager
def _listening(catcher: SignalCatcher) -> Iterator[None]:
    source, sink = socket.socketpair()
    with source, sink:
        sink.setblocking(False)
        previous = signal.set_wakeup_fd(sink.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=catcher.listen, args=(source,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            sink.send(b"\0")  # closing it is no end: forked data workers hold it open
            thread.join()


@contextmanager
def block_signals() -> Iterator[None]:
    """Postpone `STOP_SIGNALS`; processes forked in the block inherit this."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def process_exists(pid: int) -> bool:
    """Whether a process of this host exists; not for Windows, where `os.kill` would end it."""
    with suppress(PermissionError):  # it exists and belongs to another user
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def ignore_signals_in_worker() -> None:
    """Make a data worker ignore the signals that a terminal, SLURM or torchrun send to all.

    The main process needs its batches to finish the step. The worker ends when its parent sends
    SIGTERM, as the shutdown of a DataLoader does, or within `PARENT_CHECK` seconds of its parent's
    death. Without `signal.sigtimedwait` (macOS), any SIGTERM ends it; on Windows there are none.
    """
    sys.excepthook = partial(_report_unless_disconnected, sys.excepthook)
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if not hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()


def _report_unless_disconnected(
    report: Callable[..., Any], kind: type[BaseException], *rest: Any
) -> None:
    """Report an exception, except in a thread that sends tensors to a parent that has died."""
    if not issubclass(kind, ConnectionError | EOFError):
        report(kind, *rest)


def _exit_with_parent(pid: int) -> None:
    creator = parent_process()
    senders = {pid, creator.pid if creator else pid}  # they differ with a fork server
    while os.getppid() == pid:
        info = signal.sigtimedwait({signal.SIGTERM}, PARENT_CHECK)
        if info is not None and info.si_pid in senders:
            break
    os._exit(0)
