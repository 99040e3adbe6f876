"""The processes of a run as one of them sees them: who is gone, and who has the word."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOK = 1.0
"""Seconds between two looks at the others."""
GRACE = 7.0
"""Seconds that the main thread has to notice by itself that another process has ended."""


@dataclass(frozen=True)
class Place:
    """Where a process runs: what tells hosts and containers apart, and its number there."""

    host: str
    process: int


class Peers:
    """This process's group, beside torch's own: it answers also when a collective hangs.

    Args:
        store: a connection to the run's key-value store for this object alone (torch's TCPStore:
            ``add``, ``set``, ``get``, ``check``); it raises RuntimeError when the store is gone.
        rank: this process among all.
        places: everyone's, in rank order.
        name: what no other group that used the store is called.
        serves: whether the store lives in this process, without an agent.
    """

    def __init__(
        self, store: Any, *, rank: int, places: Sequence[Place], name: str, serves: bool = False
    ) -> None:
        self.serves = serves
        self.rank, self.size, self._places = rank, len(places), places
        self._store, self._prefix = store, f"ffreid/{name}"
        self._resting = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self) -> bool:
        """Take the word; False if another process has it."""
        try:
            return bool(self._store.add(self._key("word"), 1) == 1)
        except RuntimeError:
            return True  # who held the store is gone: better said twice than not at all

    def tell(self, code: int) -> None:
        """Let the others know that the word is said, and end with `code`."""
        try:
            self._store.set(self._key("code"), str(code))
        except RuntimeError:
            return  # nobody listens

    def told(self, seconds: float) -> int | None:
        """The exit code of who said the word, waiting for it; None if nobody has by then."""
        until = time.monotonic() + seconds
        while True:
            if self._has("code"):
                return int(self._store.get(self._key("code")))
            if time.monotonic() > until:
                return None
            time.sleep(0.05)

    def over(self) -> bool:
        """Whether another process has ended otherwise than by `leave`, or is about to."""
        return bool(self.gone()) or self._has("word")

    def gone(self) -> list[int]:
        """Ranks of this host whose process is no more, though it did not `leave`."""
        return [
            rank
            for rank in range(self.size)
            if not self._may_live(rank) and not self._has(f"left{rank}")
        ]

    def watch(self, force: Callable[[], Any]) -> None:
        """Look at the others in a thread, and call `force` when the main thread outlives them.

        A collective on CUDA may wait for a dead process for minutes, deaf to every signal.
        """
        self._thread = threading.Thread(target=self._look, args=(force,), daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Stop watching."""
        self._resting.set()
        if self._thread is not None:
            self._thread.join()

    def leave(self) -> None:
        """Stop watching, and let the others know that this process's end is no failure."""
        self.rest()
        try:
            self._store.set(self._key(f"left{self.rank}"), "")
        except RuntimeError:
            return  # they have ended already

    def linger(self, seconds: float) -> None:
        """Wait for the others to leave, if the store ends with this process."""
        until = time.monotonic() + seconds
        others = [rank for rank in range(self.size) if rank != self.rank]
        while self.serves and time.monotonic() < until:
            if not any(self._may_live(rank) and not self._has(f"left{rank}") for rank in others):
                return
            time.sleep(0.05)

    def _look(self, force: Callable[[], Any]) -> None:
        since = None
        while not self._resting.wait(LOOK):
            if not self.over():
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE:
                force()
                return

    def _may_live(self, rank: int) -> bool:
        place = self._places[rank]
        return place.host != self._places[self.rank].host or _lives(place.process)

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([self._key(key)]))
        except RuntimeError:
            return False

    def _key(self, what: str) -> str:
        return f"{self._prefix}/{what}"


def here() -> Place:
    """Give this process's place."""
    try:
        # Names of hosts need not differ; containers count their processes apart.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        host = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        host = socket.gethostname()
    return Place(host, os.getpid())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
