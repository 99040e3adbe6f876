"""How a process ends: what went wrong is said once, by name, whichever of many processes saw it.

Nothing heavy is imported here: a mistyped key is told before torch is there.
"""

import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ffreid.engine.distributed.watchdog import Peers
from ffreid.engine.signals import Stopped
from ffreid.errors import UserError, flat

BUG, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes; `interrupt.Stopped` has 128 + its signal."""
SAID = "FFREID_SAID"
"""Environment: folder in which a process that `launch` started notes that it has said its error."""
HEAR = 3.0
"""Seconds that the others have to say what they know, before this process speaks."""
FOLLOW = 5.0
"""Seconds that a process other than its node's first waits before any group exists."""
YIELD = 0.5
"""Seconds between another's word and this process's end: torchrun ends all with the first."""
SYMPTOM = 200
"""Characters of torch's own complaint that are quoted."""
LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|gloo.*(error|failed)"
    r"|timed out waiting|remote process exited|nccl.*(error|abort|timeout)",
    re.IGNORECASE,
)
"""How torch's collectives complain of a peer; gloo raises plain RuntimeErrors."""

_peers: Peers | None = None


class PeerLost(Exception):
    """Another process ended, and this one was asked to end for that."""


def enter(peers: Peers) -> None:
    """Share one word with `peers` from now on, and end with them."""
    global _peers
    _peers = peers
    peers.watch(_force)
    with suppress(ValueError):  # only the main thread has signals
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _asked_to_end)


def leave() -> None:
    """Leave the group in good order: what the others do is no longer this process's matter."""
    global _peers
    if _peers is None:
        return
    _peers.leave()
    _peers.linger(HEAR)
    _peers = None
    with suppress(ValueError):
        if signal.getsignal(signal.SIGTERM) is _asked_to_end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_with(error: BaseException) -> NoReturn:
    """Say what ended this command, unless another process of the run does, and exit.

    A process alone says it and raises SystemExit; a bug is raised as it is, with its traceback.

    Args:
        error: UserError (exit code 2), Stopped (128 + its signal), KeyboardInterrupt (130);
            a bug (1) otherwise.
    """
    if "RANK" not in os.environ:
        if _code(error) == BUG:
            raise error
        _write(_text(error, ""))
        sys.exit(_code(error))
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _peers is None:
        _end_before_meeting(error)
    with suppress(ValueError):  # torchrun sends it as soon as one has ended
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _peers.rest()
    if not isinstance(error, Stopped):
        _end_among(_peers, error)
    if _peers.over():  # torchrun's SIGTERM, since another process failed
        _end_among(_peers, PeerLost())
    _end_agreed(_peers, error)


def group_has_failed() -> bool:
    """Whether another process of the group has failed, so that a SIGTERM only says so too."""
    return _peers is not None and _peers.over()


def name() -> str:
    """``process 1 of 2`` from torchrun's environment, with its host where there are several."""
    size = os.environ.get("WORLD_SIZE", "1")
    host = f" ({socket.gethostname()})" if os.environ.get("LOCAL_WORLD_SIZE", size) != size else ""
    return f"process {os.environ.get('RANK', '0')} of {size}{host}"


def restarts_left() -> bool:
    """Whether torchrun starts the processes again once they have ended."""
    done = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return done < int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


def _end_before_meeting(error: BaseException) -> NoReturn:
    """A mistake of all is said by process 0, whose end ends the others; else by who made it."""
    first = os.environ["RANK"] == "0"
    if not first:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(HEAR if os.environ.get("LOCAL_RANK") == "0" else FOLLOW)
    if first or not isinstance(error, Stopped | KeyboardInterrupt):  # signals reach all alike
        _say(_text(error, "" if first else name()))
    _exit(_code(error))


def _end_agreed(peers: Peers, error: Stopped) -> NoReturn:
    """All have stopped together, so process 0 says it."""
    if peers.rank == 0:
        _say(_text(error, ""))
        peers.tell(_code(error))
        peers.linger(HEAR)
    elif peers.told(HEAR) is not None:
        time.sleep(YIELD)
    peers.leave()
    _exit(_code(error))


def _end_among(peers: Peers, error: BaseException) -> NoReturn:
    """Say it if nobody has the word; else end as the one who has it."""
    lost = _is_lost(error)
    if lost:
        peers.told(HEAR)
    if not peers.claim():
        code = peers.told(HEAR)
        time.sleep(YIELD)
        _exit(_code(error) if code is None else code)
    if lost:
        _tell_lost(peers, str(error))
    else:
        _say(_text(error, name() if peers.size > 1 else ""))
    peers.tell(_code(error))
    peers.linger(HEAR)
    _exit(_code(error))


def _tell_lost(peers: Peers, symptom: str) -> None:
    if SAID in os.environ and not restarts_left():
        return  # `launch` says it, and knows how the other process ended
    ranks = ", ".join(str(rank) for rank in peers.gone())
    who = f"process {ranks} of {peers.size}" if ranks else "another process"
    seen = f" ({flat(symptom)[:SYMPTOM]})" if symptom and not ranks else ""
    _say(
        f"error: {name()}: {who} ended without a word{seen}\n"
        "hint: killed, or its node is gone: look at its memory and its node's log; "
        "training goes on with --resume auto\n"
    )


def _force() -> NoReturn:
    """End although the main thread hangs: it waits for a process that is no more."""
    peers = _peers
    if peers is None:
        os._exit(BUG)
    if peers.claim():
        _tell_lost(peers, "")
        peers.tell(BUG)
    code = peers.told(HEAR)
    _exit(BUG if code is None else code)


def _asked_to_end(number: int, _: FrameType | None) -> None:
    """Torchrun ends the others with the first that failed: they tell of it, or are silent."""
    if group_has_failed():
        raise PeerLost
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_lost(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"PeerLost", "DistError"}:
        return True
    return type(error) is RuntimeError and LOST.search(str(error)) is not None


def _code(error: BaseException) -> int:
    match error:
        case UserError():
            return MISTAKE
        case Stopped():
            return 128 + error.signal
        case KeyboardInterrupt():
            return INTERRUPTED
    return BUG


def _text(error: BaseException, who: str) -> str:
    prefix = f"{who}: " if who else ""
    match error:
        case UserError():
            return f"error: {prefix}{flat(error.message)}\nhint: {flat(error.hint)}\n"
        case Stopped():
            return f"stopped: {prefix}{flat(error.message)}\nhint: {flat(error.hint)}\n"
        case KeyboardInterrupt():
            return (
                f"error: {prefix}interrupted\n"
                "hint: what was saved is intact; training goes on with --resume auto\n"
            )
    head = f"error: {who} met a bug\n" if who else ""
    return head + "".join(traceback.format_exception(error))


def _say(text: str) -> None:
    _write(text)
    folder = os.environ.get(SAID)
    if folder:
        with suppress(OSError):
            (Path(folder) / str(os.getpid())).touch()


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody may be reading any more
        sys.stderr.write(text)
        sys.stderr.flush()


def _exit(code: int) -> NoReturn:
    """Exit without tidying up: a group with work under way waits for its peers for ever."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    logging.shutdown()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
