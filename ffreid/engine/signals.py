"""Signals that ask a run to stop: the step is finished and saved first, data workers live on."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import parent_process
from time import perf_counter
from types import FrameType
from typing import Any

from ffreid import report

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the end of a job; what SLURM's ``--signal=USR1@SECONDS`` sends before the end."""
SAME_WITHIN = 2.0
"""Seconds in which a repetition is the same signal: torchrun forwards what a terminal sent."""
PATIENCE = 1.0
"""Seconds that the main thread has to handle a signal before another one does: Python hands it over
between two computations only, and of two signals that came during one, a single one."""
WAKE = 1.0
"""Seconds after which a data worker looks whether its parent lives."""


class Stopped(Exception):
    """A run was asked to stop, and has saved.

    Args:
        signal: number of the signal; shells have 128 + it as the exit code.
        message: what was stopped, where.
        hint: what to type to go on.
    """

    def __init__(self, signal: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.signal, self.message, self.hint = signal, message, hint

    def __reduce__(self) -> tuple[type["Stopped"], tuple[int, str, str]]:
        return type(self), (self.signal, self.message, self.hint)


class SignalCatcher:
    """What came while `catch_signals` held.

    Args:
        say: whether this process tells of it on stderr.
        over: whether the run has failed already, and the signal says no more than that.

    Attributes:
        received: the first signal; None as long as there was none.
    """

    def __init__(self, *, verbose: bool, run_has_failed: Callable[[], bool]) -> None:
        self.received: signal.Signals | None = None
        self._say, self._over, self._process = verbose, run_has_failed, os.getpid()
        self._first: dict[signal.Signals, float] = {}
        self._make: Callable[[signal.Signals], Stopped] | None = None
        self._told, self._resting = False, threading.Event()

    @contextmanager
    def stop_immediately(self, make: Callable[[signal.Signals], Stopped]) -> Iterator[None]:
        """Stop in the middle of the block: all is saved already.

        Args:
            make: what to raise, from the signal.

        Raises:
            Stopped: a signal came, in the block or before it.
        """
        previous, self._make = self._make, make
        try:
            if self.received is not None:
                raise make(self.received)
            yield
        finally:
            self._make = previous

    def handle(self, number: int, _: FrameType | None) -> None:
        """Note a signal; a second one of its kind, unless close to the first, exits at once."""
        if os.getpid() != self._process:
            return  # forked a moment ago, and not yet deaf
        kind, now = signal.Signals(number), time.monotonic()
        if now - self._first.setdefault(kind, now) > SAME_WITHIN:
            self._exit(kind)
        if self.received is None:
            self.received = kind
            if self._make is not None:
                raise self._make(kind)
            self._tell_first(kind)

    def listen(self, source: int) -> None:
        """In another thread: do as `handle` while the main one computes.

        Args:
            source: where the numbers of signals are read, 0 for the end.
        """
        first: dict[signal.Signals, float] = {}
        untold: signal.Signals | None = None
        while True:
            if not select.select([source], [], [], PATIENCE if untold else None)[0]:
                if untold and self.received is None:
                    self._tell_first(untold)
                untold = None
                continue
            number = os.read(source, 1)[0]
            if number == 0:
                return
            if number in STOP_SIGNALS:
                untold, now = signal.Signals(number), perf_counter()
                if now - first.setdefault(untold, now) > SAME_WITHIN:
                    if self._resting.wait(PATIENCE):
                        return
                    self._exit(untold)

    def rest(self) -> None:
        """Make `listen` end soon."""
        self._resting.set()

    def _tell_first(self, kind: signal.Signals) -> None:
        if not self._told:
            self._told = True
            self._tell(f"{kind.name}: finishing this step and saving; once more exits at once")

    def _exit(self, kind: signal.Signals) -> None:
        self._tell(
            f"{kind.name} again: exiting at once; what was saved is intact, "
            "go on from it with --resume auto"
        )
        if self._say and sys.stderr.isatty():
            with suppress(OSError):
                os.write(2, b"\n")  # below the live display
        os._exit(128 + kind)

    def _tell(self, line: str) -> None:
        if not self._say or self._over():
            return
        try:
            report.log(line)
        except (OSError, RuntimeError, ValueError):
            # In the middle of another write to stderr, or its terminal is gone: the step counts.
            with suppress(OSError):
                os.write(2, f"{line}\n".encode())


@contextmanager
def catch_signals(
    *, verbose: bool = True, run_has_failed: Callable[[], bool] = lambda: False
) -> Iterator[SignalCatcher]:
    """Note the signals of `STOP_SIGNALS` in place of dying of them.

    Python has signals in the main thread only; in another one nothing changes. Neither does it for
    a signal that this process was started to ignore, as in the background of a script.

    Args:
        say: whether this process tells of the first one on stderr.
        over: whether another process of the run has failed, of which torchrun's signal only tells.
    """
    watch = SignalCatcher(verbose=verbose, run_has_failed=run_has_failed)
    previous = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {kind: signal.getsignal(kind) for kind in STOP_SIGNALS}
        previous = {kind: old for kind, old in handlers.items() if old is not signal.SIG_IGN}
    try:
        for kind in previous:
            signal.signal(kind, watch.handle)
        with _heard(watch) if previous else nullcontext():
            yield watch
    finally:
        for kind, old in previous.items():
            # None is a handler that Python did not set and cannot set again.
            signal.signal(kind, signal.SIG_DFL if old is None else old)


@contextmanager
def _heard(watch: SignalCatcher) -> Iterator[None]:
    """Let `watch` listen to the signals of the block in a thread."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch.listen, args=(source,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        watch.rest()
        os.write(sink, b"\0")  # not its end: forked data workers hold it open
        thread.join()
        for end in (source, sink):
            os.close(end)


@contextmanager
def block_signals() -> Iterator[None]:
    """Postpone the signals of `STOP_SIGNALS`; processes forked in the block inherit this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals_in_worker() -> None:
    """Make a data worker deaf to signals sent to all processes of a run; its parent ends it.

    A terminal's Ctrl-C, SLURM and torchrun signal the workers too, and the main process needs
    their batches to finish its step. Only its parent's own SIGTERM, which a loader's shutdown and
    the interpreter's exit send, still ends a worker, whatever it is at; so does its parent's death,
    within `WAKE` seconds, and no word then of what it was handing over. Call it in the worker's
    main thread before it starts others.

    Where the system does not tell a signal's sender, as macOS, any SIGTERM ends a worker.
    """
    sys.excepthook = partial(_tell_but_lost, sys.excepthook)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if not hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _tell_but_lost(tell: Callable[..., Any], kind: type[BaseException], *rest: Any) -> None:
    """Tell of an error in a thread that hands tensors over, unless the receiver is gone."""
    if not issubclass(kind, ConnectionError | EOFError):
        tell(kind, *rest)


def _obey_parent(parent: int) -> None:
    made_by = parent_process()
    senders = {parent, made_by.pid if made_by else parent}  # two, where a fork server forks
    while os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, WAKE)
        if told is not None and told.si_pid in senders:
            break
    os._exit(0)
