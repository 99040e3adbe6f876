"""What processes tell each other; alone, everything is the identity."""

import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.distributed import group
from tests.engine.processes import SIZE, in_processes

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def make(path: Path) -> str:
    """Make a file; give what was there before."""
    met = "a file" if path.exists() else "nothing"
    path.touch()
    return met


def shared_buffer(rank: int) -> torch.Tensor:
    norm = torch.nn.BatchNorm1d(2)
    assert norm.running_mean is not None
    norm.running_mean += rank + 1.0
    group.broadcast_buffers(norm)
    return norm.running_mean


def gathered(rank: int, gradient: group.Gradient) -> dict[str, torch.Tensor | None]:
    """Rows of everyone, and what a loss that weighs them by rank sends back."""
    rows = torch.tensor([[1.0 + rank], [10.0 + rank]], requires_grad=True)
    everyones = group.gather_with_grad(rows, gradient)
    weights = torch.tensor([[1.0], [2.0], [3.0], [4.0]]) * 10**rank
    torch.autograd.backward((everyones * weights).sum())
    return {"rows": everyones.detach(), "grad": rows.grad}


def work(rank: int, folder: Path) -> dict[str, Any]:
    kept = torch.tensor([rank, 10.0 * rank], dtype=torch.float64)
    return {
        "size": group.size(),
        # Of unequal lengths.
        "rows": group.gather_rows([{"rank": rank, "row": row} for row in range(1 + 2 * rank)]),
        "none": group.gather_rows([]),
        "mean": group.mean(kept),
        "kept": kept,
        "buffer": shared_buffer(rank),
        "own": gathered(rank, "own"),
        "full": gathered(rank, "full"),
        "labels": group.gather_with_grad(torch.tensor([rank, 7])),
        "rank": group.rank(),
        "met": group.main_process_first(partial(make, folder / "made")),
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("dist")
    return in_processes(partial(work, folder=folder), folder)


@pytest.mark.parametrize("rank", range(SIZE))
def test_every_process_has_all_rows_in_rank_order(told: list[dict[str, Any]], rank: int) -> None:
    pairs = [(row["rank"], row["row"]) for row in told[rank]["rows"]]
    assert pairs == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert told[rank]["none"] == []


@pytest.mark.parametrize("rank", range(SIZE))
def test_the_mean_is_that_of_all_processes(told: list[dict[str, Any]], rank: int) -> None:
    assert told[rank]["size"] == SIZE
    assert told[rank]["mean"].tolist() == [0.5, 5.0]
    assert told[rank]["kept"].tolist() == [rank, 10.0 * rank]


@pytest.mark.parametrize("rank", range(SIZE))
def test_buffers_become_the_first_processs(told: list[dict[str, Any]], rank: int) -> None:
    assert told[rank]["buffer"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rank", range(SIZE))
def test_gathered_tensors_are_in_rank_order(told: list[dict[str, Any]], rank: int) -> None:
    assert told[rank]["rank"] == rank
    assert told[rank]["labels"].tolist() == [0, 7, 1, 7]
    for gradient in ("own", "full"):
        assert told[rank][gradient]["rows"].flatten().tolist() == [1.0, 10.0, 2.0, 11.0]


def test_gathered_rows_get_gradients_from_the_own_loss_or_from_all(
    told: list[dict[str, Any]],
) -> None:
    own, full = (
        [mine[kind]["grad"].flatten().tolist() for mine in told] for kind in ("own", "full")
    )
    assert own == [[1.0, 2.0], [30.0, 40.0]]
    assert full == [[11.0, 22.0], [33.0, 44.0]]


def test_the_first_process_makes_before_the_others(told: list[dict[str, Any]]) -> None:
    assert [mine["met"] for mine in told] == ["nothing", "a file"]


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    values = torch.tensor([1.0, 2.0])
    with group.process_group() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert group.size() == 1
        assert group.rank() == 0
        assert group.gather_rows([3, 1]) == [3, 1]
        assert group.gather_with_grad(values, "full") is values
        assert torch.equal(group.mean(values), values)
        assert group.main_process_first(lambda: "made") == "made"
        assert not group.restarted()


@pytest.mark.parametrize("cuda", [False, pytest.param(True, marks=GPU)])
def test_one_process_of_torchruns_joins_and_leaves(
    monkeypatch: pytest.MonkeyPatch, cuda: bool
) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    if not cuda:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for _ in range(2):  # a group can be left and made again
        with group.process_group() as world, group.process_group() as inner:
            assert inner == world
            assert torch.distributed.get_backend() == ("nccl" if cuda else "gloo")
            values = torch.ones(2, device=world.device)
            torch.distributed.all_reduce(values)
            assert values.tolist() == [1.0, 1.0]
        assert not torch.distributed.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
