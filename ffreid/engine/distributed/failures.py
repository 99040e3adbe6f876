"""How a process ends: one message per failure, whichever process saw it, and all end in seconds.

torchrun's agent ends the processes of its node after a failure, but reports only exit codes, and
there may be no agent. So the processes elect the one that reports. Neither torch nor numpy is
imported here: a mistyped key is reported before they are loaded.
"""

import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ffreid.engine.signals import Stopped, process_exists
from ffreid.errors import UserError, flat

BUG, USER_ERROR, INTERRUPTED = 1, 2, 130
LAUNCHED = "FFREID_LAUNCHED"
"""Environment variable of the processes of `launch`, which itself reports how one was killed."""
RESUME = "resume from the last checkpoint with --resume auto"
REPORT_WAIT = 3.0
"""Seconds in which a process that knows the cause reports it, before one that does not."""
EXIT_DELAY = 0.5
"""Seconds by which the reporter exits first: torchrun ends all processes after the first."""
POLL = 0.05
WATCH_EVERY = 1.0
"""Seconds between two looks at the other processes."""
GRACE = 7.0
"""Seconds in which the main thread itself must notice that another process has failed."""
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|gloo.*(error|failed)"
    r"|timed out waiting|remote process exited|nccl.*(error|abort|timeout)",
    re.IGNORECASE,
)
"""How torch's collectives report a lost process; gloo raises plain RuntimeErrors."""

Place = tuple[str, int]
"""Host (or container) and process id."""


class ProcessLost(Exception):
    """Another process has failed, and this one ends because of that."""


class Disagreement(UserError):
    """Processes were started differently, which every one of them knows and reports."""


class Watchdog:
    """Watches the other processes through the run's store, also while a collective hangs.

    Args:
        store: connection to torch's key-value store, used by nothing else; its methods raise
            RuntimeError when the server is gone.
        places: of all processes, in rank order.
        server: the store's server, if it is in this process rather than in torchrun's agent.
    """

    def __init__(self, store: Any, *, rank: int, places: Sequence[Place], server: Any = None):
        self.rank, self.places = rank, places
        self._store, self._server = store, server
        self._exit_code: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def elect_reporter(self, code: int) -> bool:
        """Become the process that reports the failure, unless another one already is."""
        value = f"{self.rank} {code}"
        try:
            return bool(self._store.compare_set("report", "", value) == value.encode())
        except RuntimeError:
            return self._exit_code is None  # a second report is better than none

    def exit_code_of_reporter(self, seconds: float = 0.0) -> int | None:
        """Exit code of the process that reports the failure; None if there is none in `seconds`."""
        deadline = time.monotonic() + seconds
        while self._exit_code is None:
            if self._has("report"):
                self._exit_code = int(self._store.get("report").split()[1])
            elif time.monotonic() > deadline:
                break
            else:
                time.sleep(POLL)
        return self._exit_code

    def has_failed(self) -> bool:
        """Whether another process has died or reports a failure."""
        return bool(self.dead_ranks()) or self.exit_code_of_reporter() is not None

    def dead_ranks(self) -> list[int]:
        """Ranks of this host whose process no longer exists, though it did not `leave`."""
        ranks = range(len(self.places))
        return [rank for rank in ranks if self._is_gone(rank) and not self._has(f"left/{rank}")]

    def leave(self) -> None:
        """Stop watching, and tell the others that the end of this process is not a failure."""
        self.stop()
        with suppress(RuntimeError):
            self._store.set(f"left/{self.rank}", "")

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def wait_for_others(self) -> None:
        """Keep the store's server alive until the others have ended, `REPORT_WAIT` at most."""
        deadline = time.monotonic() + REPORT_WAIT
        others = [rank for rank in range(len(self.places)) if rank != self.rank]
        while self._server is not None and time.monotonic() < deadline:
            if all(self._is_gone(rank) or self._has(f"left/{rank}") for rank in others):
                return
            time.sleep(POLL)

    def _watch(self) -> None:
        """End this process where its main thread hangs: NCCL waits minutes for a dead process."""
        since = None
        while not self._stopping.wait(WATCH_EVERY):
            since = (since or time.monotonic()) if self.has_failed() else None
            if since and time.monotonic() - since > GRACE:
                _report_and_exit(self, ProcessLost())

    def _is_gone(self, rank: int) -> bool:
        host, pid = self.places[rank]
        return host == self.places[self.rank][0] and not process_exists(pid)

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except RuntimeError:
            return False


_watchdog: Watchdog | None = None


@contextmanager
def watch(store: Any, *, rank: int, places: Sequence[Place], server: Any = None) -> Iterator[None]:
    """Run a `Watchdog` in the block; after an exception it stays, for `exit_with`."""
    global _watchdog
    _watchdog = Watchdog(store, rank=rank, places=places, server=server)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        _set_handler(signal.SIGTERM, _handle_sigterm)
    yield
    _watchdog.leave()
    _watchdog.wait_for_others()
    _watchdog = None
    if signal.getsignal(signal.SIGTERM) is _handle_sigterm:
        _set_handler(signal.SIGTERM, signal.SIG_DFL)


def group_has_failed() -> bool:
    """Whether another process has failed, so that torchrun's SIGTERM only follows from that."""
    return _watchdog is not None and _watchdog.has_failed()


def local_place() -> Place:
    """Place of this process; hosts may share a name, so on Linux the kernel's boot names it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}", os.getpid()
    except OSError:
        return socket.gethostname(), os.getpid()


def process_name() -> str:
    """``process 1 of 2``, with the host where there are several."""
    size = os.environ.get("WORLD_SIZE", "1")
    host = f" ({socket.gethostname()})" if os.environ.get("LOCAL_WORLD_SIZE", size) != size else ""
    return f"process {os.environ.get('RANK', '0')} of {size}{host}"


def exit_with(error: BaseException) -> NoReturn:
    """Report the error that ended this command, unless another process does, and exit.

    The exit code is 2 for a UserError, 128 + the signal for Stopped, 130 for KeyboardInterrupt and
    1 for a bug, which a single process raises as it is.
    """
    if "RANK" not in os.environ:
        if _exit_code(error) == BUG:
            raise error
        _report(_message(error))
        _kill_workers()
        sys.exit(_exit_code(error))
    _set_handler(signal.SIGINT, signal.SIG_IGN)
    if _watchdog is None:
        _exit_before_group(error)
    _set_handler(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, once a process has exited
    _watchdog.stop()
    if isinstance(error, Stopped) and _watchdog.has_failed():
        error = ProcessLost()  # stopped by torchrun's SIGTERM
    _report_and_exit(_watchdog, error)


def _exit_before_group(error: BaseException) -> NoReturn:
    """Leave an error of all processes to rank 0, whose exit makes torchrun end the others."""
    is_main = os.environ["RANK"] == "0"
    if not is_main:
        _set_handler(signal.SIGTERM, signal.SIG_DFL)
        is_first = os.environ.get("LOCAL_RANK") == "0"  # on its node
        time.sleep(REPORT_WAIT if is_first else 1.7 * REPORT_WAIT)
    if is_main or not isinstance(error, Stopped | KeyboardInterrupt):  # every process gets these
        _report(_message(error, "" if is_main else process_name()))
    _exit(_exit_code(error))


def _report_and_exit(watchdog: Watchdog, error: BaseException) -> NoReturn:
    code, size = _exit_code(error), len(watchdog.places)
    lost, stopped = _is_lost(error), isinstance(error, Stopped)
    if lost or (stopped and watchdog.rank):  # a process that knows the cause, or rank 0, reports it
        watchdog.exit_code_of_reporter(REPORT_WAIT)
    if not watchdog.elect_reporter(code) and not isinstance(error, Disagreement):
        code = watchdog.exit_code_of_reporter(REPORT_WAIT) or code
        watchdog.leave()
        time.sleep(EXIT_DELAY)
        _exit(code)
    if lost:
        ranks = ", ".join(map(str, watchdog.dead_ranks()))
        what = f"lost the connection to another process ({flat(str(error))[:200] or 'it failed'})"
        error = UserError(
            f"process {ranks} of {size} died" if ranks else what,
            f"check the memory and the logs of its node; {RESUME}",
        )
    if not (lost and LAUNCHED in os.environ):
        _report(_message(error, "" if stopped or size == 1 else process_name()))
    watchdog.wait_for_others()
    _exit(code)


def _handle_sigterm(number: int, _: FrameType | None) -> None:
    """Report the failure of another process, after which torchrun ends this one."""
    if group_has_failed():
        raise ProcessLost
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _set_handler(number: int, handler: Any) -> None:
    with suppress(ValueError):  # not in the main thread
        signal.signal(number, handler)


def _is_lost(error: BaseException) -> bool:
    if {"ProcessLost", "DistError"} & {kind.__name__ for kind in type(error).__mro__}:
        return True
    return type(error) is RuntimeError and LOST.search(str(error)) is not None


def _exit_code(error: BaseException) -> int:
    match error:
        case UserError():
            return USER_ERROR
        case Stopped():
            return 128 + error.signal
        case KeyboardInterrupt():
            return INTERRUPTED
    return BUG


def _message(error: BaseException, process: str = "") -> str:
    prefix = f"{process}: " if process else ""
    match error:
        case UserError() | Stopped():
            kind = "stopped" if isinstance(error, Stopped) else "error"
            return f"{kind}: {prefix}{flat(error.message)}\nhint: {flat(error.hint)}\n"
        case KeyboardInterrupt():
            return (
                f"error: {prefix}interrupted\n"
                "hint: start it again; a training resumes with --resume auto\n"
            )
    head = f"error: {prefix}unexpected {type(error).__name__}\n" if process else ""
    return head + "".join(traceback.format_exception(error))


def _report(text: str) -> None:
    """Write to stderr, and the first line to the file that torchrun's agent reads."""
    with suppress(OSError, ValueError):  # stderr may be closed
        sys.stderr.write(text)
        sys.stderr.flush()
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        line = text.partition("\n")[0]
        extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}))


def _kill_workers() -> None:
    """Kill data workers, for which Python would wait at its end, also where they hang."""
    if children := multiprocessing.active_children():
        if hasattr(signal, "SIGCHLD"):
            _set_handler(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises an error
        for child in children:
            child.kill()


def _exit(code: int) -> NoReturn:
    """Exit without cleaning up: a group with pending work waits for its processes for ever."""
    _kill_workers()
    logging.shutdown()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
