"""How the processes of a run find each other, and whether they were started with the same command.

They meet in a store of torch: torchrun's agent serves it, or rank 0 where ranks are started by
hand. Whatever goes wrong is a UserError on every process, within seconds where that can be known.
"""

import json
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from ffreid.engine.distributed import failures
from ffreid.engine.distributed.failures import Disagreement, Place
from ffreid.errors import UserError, flat
from ffreid.report import log

START_TIMEOUT = timedelta(minutes=10)
"""How long processes wait for each other to start."""
STORE_TIMEOUT = timedelta(seconds=10)
"""How long one request to the run's store may take."""
ANSWER_TIMEOUT = timedelta(seconds=5)
"""How long a server may take for its first answer."""
POLL = 0.02
START, SERVED, SIZE, SIZES = (f"ffreid/{name}" for name in ("start", "served", "size", "sizes"))
SAME = "start every process with the same command, data and version of ffreid"

Facts = Mapping[str, Any]
"""What must be the same in all processes, by name; values as JSON has them."""


@dataclass(frozen=True)
class Start:
    """One start of a run.

    Attributes:
        name: unique to it.
        places: of all processes, in rank order.
        restarted: whether the run was started before.
        facts: of all processes; those of `local` are only compared on the same host.
    """

    name: str
    places: list[Place]
    restarted: bool
    facts: list[Facts]
    local: list[Facts]

    def check(self, rank: int) -> None:
        """Refuse facts that differ between processes."""
        check_same(self.facts, rank)
        host = [
            other for other, place in enumerate(self.places) if place[0] == self.places[rank][0]
        ]
        check_same([self.local[other] for other in host], host.index(rank), host)


def check_same(facts: Sequence[Facts], rank: int, ranks: Sequence[int] | None = None) -> None:
    """Refuse facts that differ between processes, in all of them.

    Raises:
        Disagreement: naming the first such fact, with its value here and in another process.
    """
    names = dict.fromkeys(name for one in facts for name in one)
    unequal = [name for name in names if any(one.get(name) != facts[0].get(name) for one in facts)]
    if not unequal:
        return
    mine = facts[rank].get(name := unequal[0])
    other = next(other for other, one in enumerate(facts) if one.get(name) != mine)
    more = f", and {len(unequal) - 1} more differ" if unequal[1:] else ""
    there = other if ranks is None else ranks[other]
    message = f"{name} is {mine}, but {facts[other].get(name)} in process {there}{more}"
    raise Disagreement(message, SAME)


def connect(timeout: timedelta, *, serve: bool = False) -> Any:
    """Connect to the run's store, or serve it.

    Raises:
        UserError: the port is in use by something else, or nothing answers in time.
    """
    address, port = _environment("MASTER_ADDR"), environment_integer("MASTER_PORT")
    hint = "set MASTER_PORT to a free port, the same in all processes; with torchrun, --master-port"
    if not serve:
        _wait_for_server(address, port)
    try:
        return _within(
            ANSWER_TIMEOUT,
            lambda: dist.TCPStore(  # type: ignore[attr-defined]
                address, port, is_master=serve, timeout=timeout, wait_for_workers=False
            ),
        )
    except RuntimeError as error:
        reason = "it is in use" if "EADDRINUSE" in str(error) else flat(str(error))[:200]
        raise UserError(f"cannot use port {port} of {address}: {reason}", hint) from error


def _within(limit: timedelta, make: Callable[[], Any]) -> Any:
    """Call `make` in a thread: torch waits for ever for a server that says nothing."""
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(make())
        except RuntimeError as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=limit.total_seconds())
    except queue.Empty:
        result = RuntimeError("what listens there is not a process of this run")
    if isinstance(result, RuntimeError):
        raise result
    return result


def _wait_for_server(address: str, port: int) -> None:
    started, has_told = time.monotonic(), False
    while True:
        try:
            socket.create_connection((address, port), ANSWER_TIMEOUT.total_seconds()).close()
            return
        except OSError as error:
            waited = time.monotonic() - started
            where = f"process 0 at MASTER_ADDR {address}, MASTER_PORT {port}: {error.strerror}"
        if waited > START_TIMEOUT.total_seconds():
            raise UserError(f"cannot reach {where}", "start process 0 too, and check the address")
        if waited > ANSWER_TIMEOUT.total_seconds() and not has_told:
            log(f"note: waiting for {where}")
            has_told = True
        time.sleep(5 * POLL)


def _environment(name: str) -> str:
    if not (value := os.environ.get(name)):
        message = f"{name} is not set, though other variables of torchrun are"
        raise UserError(message, "use torchrun or --gpus, or unset RANK and WORLD_SIZE")
    return value


def environment_integer(name: str) -> int:
    """Return an integer that torchrun sets in the environment."""
    if not (value := _environment(name)).isdecimal():
        raise UserError(f"{name} is {value!r}, not an integer", "use torchrun or --gpus")
    return int(value)


def rendezvous(
    store: Any,
    *,
    rank: int,
    size: int,
    timeout: timedelta = START_TIMEOUT,
    facts: Facts | None = None,
    local: Facts | None = None,
    by_hand: bool = False,
) -> Start:
    """Wait for all processes of this start.

    torchrun keeps one store for all its restarts (torch 2.14 does), and its count of restarts
    differs between nodes. So each process joins with a random token, and takes rank 0's answer
    only if it lists that token. Where ranks are started `by_hand`, their store is of one start.

    Raises:
        UserError: a process did not join in time, or two have the same rank.
        Disagreement: the processes expect different numbers of processes.
    """
    token = uuid.uuid4().hex
    one: dict[str, Any] = {"token": token, "restarts": restarts(), "place": failures.local_place()}
    one |= {"facts": {"WORLD_SIZE": size, **(facts or {})}, "local": dict(local or {})}
    joined = json.dumps(one, default=str)
    keys = [f"ffreid/joined/{other}" for other in range(size)]
    started_before, started = False, time.monotonic()
    if rank == 0:
        started_before = store.add("ffreid/starts", 1) > 1
        for key in keys:
            store.delete_key(key)
    if by_hand:
        _meet(store, rank, size)
    while (waited := time.monotonic() - started) < timeout.total_seconds():
        store.set(keys[rank], joined)  # repeatedly: rank 0 deletes the keys of earlier starts
        if rank == 0 and store.check(keys):
            processes = [json.loads(store.get(key)) for key in keys]
            restarted = started_before or any(process["restarts"] for process in processes)
            store.set(START, json.dumps({"processes": processes, "restarted": restarted}))
        if store.check([START]):
            start = json.loads(store.get(START))
            processes = start["processes"]
            if any(process["token"] == token for process in processes):
                return Start(
                    name=processes[0]["token"],
                    places=[(host, pid) for host, pid in (one["place"] for one in processes)],
                    restarted=start["restarted"],
                    facts=[process["facts"] for process in processes],
                    local=[process["local"] for process in processes],
                )
            if by_hand and waited > ANSWER_TIMEOUT.total_seconds():
                message = f"another process has rank {rank}, or another run uses this MASTER_PORT"
                raise UserError(message, "give every process its own RANK, and every run a port")
        if by_hand and store.check([SIZES]):
            sizes = store.get(SIZES).decode()
            time.sleep(50 * POLL)  # the others read it too, before its server is gone
            raise Disagreement(f"WORLD_SIZE is not the same in all processes: {sizes}", SAME)
        time.sleep(POLL)
    missing = [other for other, key in enumerate(keys) if rank == 0 and not store.check([key])]
    which = (
        f"process {', '.join(map(str, missing))} of {size}" if missing else f"all {size} processes"
    )
    raise UserError(f"timed out waiting for {which} to start", "see the log of each process")


def _meet(store: Any, rank: int, size: int) -> None:
    """Make sure that rank 0 serves the store, and tell all if the sizes differ."""
    if rank == 0:
        store.set(SERVED, "")
    try:
        store.wait([SERVED], ANSWER_TIMEOUT)
    except RuntimeError as error:
        message = "another program uses this MASTER_PORT"
        raise UserError(message, "set MASTER_PORT to a free port, the same in all") from error
    first = int(store.compare_set(SIZE, "", str(size)))
    if first != size:
        store.set(SIZES, f"{first} and {size}")


def restarts() -> int:
    """How often torchrun has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
