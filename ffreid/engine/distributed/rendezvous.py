"""How processes find each other through a store that may hold what earlier ones have left there.

torchrun keeps one store for all its restarts (torch 2.14 does), and its count of restarts differs
between nodes. So processes greet each other first, and call their group by a name of its own.
"""

import json
import os
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from ffreid.engine.distributed.watchdog import Place, here

POLL = 0.02
"""Seconds between two looks into the store."""


@dataclass(frozen=True)
class Meeting:
    """What the processes of one start agree on.

    Attributes:
        name: unlike every other meeting's.
        places: everyone's, in rank order.
        again: whether torchrun has started this run before.
    """

    name: str
    places: tuple[Place, ...]
    again: bool


def meet(store: Any, *, rank: int, size: int, seconds: float) -> Meeting:
    """Wait for all processes of this start.

    Args:
        store: torch's TCPStore, the same for all.
        rank: this process among all.
        size: how many there are.
        seconds: how long to wait.

    Raises:
        RuntimeError: somebody did not come.
    """
    guest = uuid.uuid4().hex
    greeting = {"guest": guest, "restarts": _restarts(), "place": asdict(here())}
    until = time.monotonic() + seconds
    store.set(f"ffreid/hello/{rank}", json.dumps(greeting))
    if rank == 0:
        text = _welcome(store, size, until)
    else:
        text = _welcomed(store, guest, until)
        store.set(f"ffreid/seen/{rank}", json.loads(text)["name"])
    found = json.loads(text)
    places = tuple(Place(**guest["place"]) for guest in found["guests"])
    return Meeting(found["name"], places, found["again"])


def _welcome(store: Any, size: int, until: float) -> str:
    """As the first process: tell who is here until everybody has found himself among them."""
    name = uuid.uuid4().hex
    again = store.add("ffreid/meetings", 1) > 1
    others = range(1, size)
    while time.monotonic() < until:
        if store.check([f"ffreid/hello/{rank}" for rank in range(size)]):
            guests = [json.loads(store.get(f"ffreid/hello/{rank}")) for rank in range(size)]
            repeated = again or any(guest["restarts"] for guest in guests)
            text = json.dumps({"name": name, "again": repeated, "guests": guests})
            store.set("ffreid/welcome", text)
            if all(_seen(store, rank) == name for rank in others):
                return text
        time.sleep(POLL)
    raise RuntimeError(f"timed out waiting for {size - 1} other processes")


def _welcomed(store: Any, guest: str, until: float) -> str:
    """As another process: wait for a welcome that is for this process, not for an earlier one."""
    while time.monotonic() < until:
        if store.check(["ffreid/welcome"]):
            text = store.get("ffreid/welcome").decode()
            if guest in text:
                return str(text)
        time.sleep(POLL)
    raise RuntimeError("timed out waiting for process 0")


def _seen(store: Any, rank: int) -> str | None:
    key = f"ffreid/seen/{rank}"
    return store.get(key).decode() if store.check([key]) else None


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
