"""Checkpoints are written atomically, read safely, and loaded only where they fit."""

import io
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ffreid.engine.checkpoints import io as checkpoint_io
from ffreid.errors import UserError
from tests.engine.checkpoints.test_manager import raising


def test_a_saved_state_is_loaded(tmp_path: Path) -> None:
    state = {"weights": {"a": torch.arange(3.0)}, "step": 7, "best": float("inf"), "names": ["x"]}
    checkpoint_io.save(tmp_path / "runs" / "last.pth", state)
    loaded = checkpoint_io.load(tmp_path / "runs" / "last.pth")
    assert torch.equal(loaded["weights"].pop("a"), torch.arange(3.0))
    assert loaded == {"weights": {}, "step": 7, "best": float("inf"), "names": ["x"]}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["last.pth"]


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_numbers_in_original_files_are_read(tmp_path: Path, module: bytes) -> None:
    written = io.BytesIO()
    torch.save({"rank1": np.float64(0.25)}, written, _use_new_zipfile_serialization=False)
    text, current = written.getvalue(), np.float64(0).__reduce__()[0].__module__.encode()
    assert current in text
    (tmp_path / "best_model.pth.tar").write_bytes(text.replace(current, module))
    assert checkpoint_io.load(tmp_path / "best_model.pth.tar") == {"rank1": 0.25}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), RuntimeError("No space left"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("stays", [False, True])
def test_a_failed_or_killed_save_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, stays: bool
) -> None:
    path = tmp_path / "last.pth"
    checkpoint_io.save(path, {"step": 1})

    def fail(state: Any, file: Any) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    if stays:  # the partial file cannot be removed; the first error is reported
        monkeypatch.setattr(Path, "unlink", raising(OSError(5, "Input/output error")))
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        checkpoint_io.save(path, {"step": 2})
    if isinstance(caught.value, UserError):
        assert caught.value.message == f"cannot write {path}: No space left"
        assert "earlier checkpoints are intact" in caught.value.hint
    assert checkpoint_io.load(path) == {"step": 1}
    suffixes = [".part"] * stays + [".pth"]
    assert sorted(left.suffix for left in tmp_path.iterdir()) == suffixes


def write_to_a_full_disk(path: Path, output: Path) -> None:
    """Save more than the file size limit of this process; write the error to a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        checkpoint_io.save(path, {"step": 2, "weights": torch.zeros(1_000_000)})
    except UserError as error:
        output.write_text(f"{error.message}\n{error.hint}")


def test_a_full_disk_is_reported_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path, output = tmp_path / "last.pth", tmp_path / "output"
    checkpoint_io.save(path, {"step": 1})
    process = multiprocessing.get_context("fork").Process(
        target=write_to_a_full_disk, args=(path, output)
    )
    process.start()
    process.join()
    message, hint = output.read_text().splitlines()
    assert message == f"cannot write {path}: File too large"
    assert hint.startswith("free disk space or ")
    assert checkpoint_io.load(path) == {"step": 1}
    assert sorted(tmp_path.iterdir()) == [path, output]


def test_a_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(number: int) -> None:
        done.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    def rename(path: Path, name: Path) -> Path:
        done.append("renamed")
        return replace(path, name)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    checkpoint_io.save(tmp_path / "last.pth", {"step": 1})
    assert done[0].endswith(".pth.part")
    assert done[1:] == ["renamed", tmp_path.name]


@pytest.mark.parametrize(("content", "message"), [([1], "contains a list"), (nn.ReLU(), "more")])
def test_a_file_without_a_dict_or_with_code_is_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    torch.save(content, tmp_path / "list.pth")
    with pytest.raises(UserError, match=message):
        checkpoint_io.load(tmp_path / "list.pth")


def network() -> nn.Module:
    net = nn.Module()
    net.first = nn.Linear(2, 3)
    net.second = nn.Linear(3, 4)
    return net


def test_weights_that_do_not_fit_are_listed_by_module_and_change_nothing() -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: value + 1 for key, value in net.state_dict().items()}
    del state["first.weight"], state["first.bias"]
    state["second.weight"] = torch.zeros(4, 5)
    state["third.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        checkpoint_io.load_weights(net, state, "best.pth")
    assert caught.value.message == (
        "best.pth does not match this network: 2 missing (first.* 2), 1 unexpected (third.* 1), "
        "1 of wrong shape (second.weight (4, 5) for (4, 3))"
    )
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_keys_are_compared_and_grouped_by_module() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    state = dict(net.state_dict())
    assert not checkpoint_io.compare(net, state).problems()
    del state["1.weight"], state["1.bias"]
    state |= {"extra.weight": torch.ones(1), "2.bias": torch.ones(3)}
    comparison = checkpoint_io.compare(net, state)
    assert comparison.rows() == [
        ("1", 2, 0, 0, "1.weight"),
        ("extra", 0, 1, 0, "extra.weight"),
        ("2", 0, 0, 1, "2.bias (3,) for (2,)"),
    ]
    assert checkpoint_io.module_of("stages.3.1.weight") == "stages.3"
    deep = nn.Sequential(*[nn.Linear(1, 1) for _ in range(9)])
    assert checkpoint_io.compare(deep, {}).problems().endswith("(0.* 2, 1.* 2, 2.* 2, 3.* 2, …)")
