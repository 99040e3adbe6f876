"""Collectives of processes; in a single process they are the identity."""

import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.distributed import group
from tests.engine.processes import SIZE, in_processes

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def existed(path: Path) -> bool:
    """Create a file; return whether it existed."""
    before = path.exists()
    path.touch()
    return before


def shared_buffer(rank: int) -> torch.Tensor:
    norm = torch.nn.BatchNorm1d(2)
    assert norm.running_mean is not None
    norm.running_mean += rank + 1.0
    group.broadcast_buffers(norm)
    return norm.running_mean


def gathered(rank: int, gradient: group.Gradient) -> dict[str, torch.Tensor | None]:
    """Gathered rows, and their gradients from a loss with weights that depend on the rank."""
    rows = torch.tensor([[1.0 + rank], [10.0 + rank]], requires_grad=True)
    all_rows = group.gather_with_grad(rows, gradient)
    weights = torch.tensor([[1.0], [2.0], [3.0], [4.0]]) * 10**rank
    torch.autograd.backward((all_rows * weights).sum())
    return {"rows": all_rows.detach(), "grad": rows.grad}


def work(rank: int, folder: Path) -> dict[str, Any]:
    values = torch.tensor([rank, 10.0 * rank], dtype=torch.float64)
    return {
        "size": group.size(),
        "rank": group.rank(),
        "rows": group.gather_rows([[rank, row] for row in range(1 + 2 * rank)]),
        "no rows": group.gather_rows([]),
        "mean": group.mean(values),
        "values": values,
        "buffer": shared_buffer(rank),
        "own": gathered(rank, "own"),
        "full": gathered(rank, "full"),
        "labels": group.gather_with_grad(torch.tensor([rank, 7])),
        "existed": group.main_process_first(partial(existed, folder / "file")),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("group")
    return in_processes(partial(work, folder=folder), folder)


def test_every_process_gets_the_same_values_in_rank_order(results: list[dict[str, Any]]) -> None:
    for rank, result in enumerate(results):
        assert (result["rank"], result["size"]) == (rank, SIZE)
        assert result["rows"] == [[0, 0], [1, 0], [1, 1], [1, 2]]
        assert result["no rows"] == []
        assert result["mean"].tolist() == [0.5, 5.0]
        assert result["values"].tolist() == [rank, 10.0 * rank]
        assert result["buffer"].tolist() == [1.0, 1.0]
        assert result["labels"].tolist() == [0, 7, 1, 7]
        assert result["existed"] == (rank > 0)  # the first process runs first


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [("own", [[1.0, 2.0], [30.0, 40.0]]), ("full", [[11.0, 22.0], [33.0, 44.0]])],
)
def test_gathered_rows_have_gradients_of_the_local_loss_or_of_all(
    results: list[dict[str, Any]], gradient: str, expected: list[list[float]]
) -> None:
    for result, grad in zip(results, expected, strict=True):
        assert result[gradient]["rows"].flatten().tolist() == [1.0, 10.0, 2.0, 11.0]
        assert result[gradient]["grad"].flatten().tolist() == grad


def test_a_single_process_needs_no_group() -> None:
    values = torch.tensor([1.0, 2.0])
    with group.process_group() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert group.size() == 1
        assert group.rank() == 0
        assert group.gather_rows([3, 1]) == [3, 1]
        assert group.gather_with_grad(values, "full") is values
        assert torch.equal(group.mean(values), values)
        assert group.main_process_first(lambda: "value") == "value"
        assert not group.restarted()


@pytest.mark.parametrize("cuda", [False, pytest.param(True, marks=GPU)])
def test_a_group_of_one_process_is_joined_and_left(
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
    for _ in range(2):
        with group.process_group() as world, group.process_group() as inner:
            assert inner == world
            assert torch.distributed.get_backend() == ("nccl" if cuda else "gloo")
            values = torch.ones(2, device=world.device)
            torch.distributed.all_reduce(values)
            assert values.tolist() == [1.0, 1.0]
        assert not torch.distributed.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_gpu_that_is_not_there_has_one_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "97")
    for _ in range(2):
        with group.process_group() as world:
            assert world.device.type == "cpu"
    assert capsys.readouterr().err == "note: torch finds no GPU 97; the CPU computes\n"
