"""Processes join with the same settings, or all learn why not, within seconds."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from ffreid.engine.distributed import failures, joining
from ffreid.engine.distributed.failures import Disagreement
from ffreid.errors import UserError

SHORT = timedelta(seconds=0.3)


def join(store: Any, sizes: Sequence[int] = (3, 3, 3), **options: Any) -> list[Any]:
    """Results or errors of the rendezvous of processes as threads, rank 0 last."""

    def one(rank: int) -> Any:
        try:
            start = joining.rendezvous(store, rank=rank, size=sizes[rank], **options)
            start.check(rank)
            return start
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(sizes)) as pool:
        results = [pool.submit(one, rank) for rank in reversed(range(len(sizes)))]
        return [result.result() for result in results][::-1]


@pytest.fixture
def store() -> Any:
    return dist.HashStore()  # type: ignore[attr-defined]


def test_processes_agree_on_a_new_name_after_each_start(store: Any) -> None:
    first, *others = join(store)
    assert others == [first] * 2
    assert first.places == [failures.local_place()] * 3
    assert not first.restarted
    second, *others = join(store)
    assert others == [second] * 2
    assert second.name != first.name
    assert second.restarted


@pytest.mark.parametrize(("rank", "who"), [(0, "process 1, 2 of 3"), (1, "all 3 processes")])
def test_processes_of_an_earlier_start_are_ignored(store: Any, rank: int, who: str) -> None:
    join(store)
    with pytest.raises(UserError, match=f"timed out waiting for {who} to start"):
        joining.rendezvous(store, rank=rank, size=3, timeout=timedelta(seconds=0.1))


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_processes_that_expect_other_numbers_of_them_are_refused(
    store: Any, sizes: Sequence[int]
) -> None:
    errors = join(store, sizes, by_hand=True)
    assert [type(error) for error in errors] == [Disagreement] * 2
    for error in errors:
        assert error.message.startswith("WORLD_SIZE is ")


def test_two_processes_of_a_rank_are_refused(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ANSWER_TIMEOUT", SHORT)
    join(store, (2, 2), by_hand=True)
    with pytest.raises(UserError, match="another process has rank 1"):
        joining.rendezvous(store, rank=1, size=2, by_hand=True)


@pytest.mark.parametrize(
    ("facts", "messages"),
    [
        (({"SEED": 1}, {"SEED": 2}), ("SEED is 1, but 2 in process 1", "SEED is 2, but 1 in")),
        (({"A": 1, "B": [2]}, {"A": 3, "B": []}), ("A is 1, but 3 in process 1, and 1 more", "A")),
        (({"TASK": "pose"}, {}), ("TASK is pose, but None in process 1", "TASK is None, but pose")),
    ],
)
def test_every_process_names_what_differs(
    facts: Sequence[Mapping[str, Any]], messages: Sequence[str]
) -> None:
    for rank, message in enumerate(messages):
        joining.check_same([facts[0]] * 2, rank)
        with pytest.raises(Disagreement, match=f"^{message}"):
            joining.check_same(facts, rank)


def test_paths_are_compared_on_the_same_host_only() -> None:
    facts: list[Any] = [{"DATA.ROOT": root} for root in "aabc"]
    start = joining.Start("x", [(host, 1) for host in "hhii"], False, [{}] * 4, facts)
    start.check(0)
    start.check(1)
    with pytest.raises(Disagreement, match="ROOT is c, but b in process 2"):
        start.check(3)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port on which somebody else listens and says nothing."""
    monkeypatch.setattr(joining, "ANSWER_TIMEOUT", SHORT)
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        monkeypatch.setenv("MASTER_ADDR", "localhost")
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("serve", "reason"), [(True, "it is in use"), (False, "what listens there is not a process")]
)
def test_a_port_in_use_is_refused_by_every_process(port: int, serve: bool, reason: str) -> None:
    with pytest.raises(UserError, match=f"cannot use port {port} of localhost: {reason}") as caught:
        joining.connect(SHORT, serve=serve)
    assert "set MASTER_PORT to a free port" in caught.value.hint


def test_the_store_of_another_program_is_refused(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ANSWER_TIMEOUT", SHORT)
    with pytest.raises(UserError, match="another program uses this MASTER_PORT"):
        joining.rendezvous(store, rank=1, size=2, by_hand=True)


def test_process_0_is_waited_for_with_a_note(
    monkeypatch: pytest.MonkeyPatch, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(joining, "START_TIMEOUT", 3 * SHORT)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
        with pytest.raises(UserError, match="cannot reach process 0 at MASTER_ADDR localhost, "):
            joining.connect(SHORT)
    assert capsys.readouterr().err.startswith(
        "note: waiting for process 0 at MASTER_ADDR localhost"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MASTER_PORT", "x", "MASTER_PORT is 'x', not an integer"),
        ("MASTER_PORT", None, "MASTER_PORT is not set"),
        ("MASTER_ADDR", None, "MASTER_ADDR is not set"),
    ],
)
def test_a_wrong_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, port: int, name: str, value: str | None, message: str
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        joining.connect(SHORT)
