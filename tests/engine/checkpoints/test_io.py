"""Checkpoints are written whole, read safely, and loaded only where they fit."""

import io
import multiprocessing
import os
import pickle
import resource
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ffreid.engine.checkpoints import io as checkpoint_io
from ffreid.errors import UserError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"weights": {"a": torch.arange(3.0)}, "step": 7, "best": float("inf"), "names": ["x"]}
    checkpoint_io.save(tmp_path / "runs" / "last.pth", state)
    loaded = checkpoint_io.load(tmp_path / "runs" / "last.pth")
    assert torch.equal(loaded["weights"].pop("a"), torch.arange(3.0))
    assert loaded == {"weights": {}, "step": 7, "best": float("inf"), "names": ["x"]}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["last.pth"]


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numbers_of_numpy_in_the_authors_files_are_read(tmp_path: Path, module: bytes) -> None:
    written = io.BytesIO()
    # Their files are of torch's old form, in which names of modules can be told apart by eye.
    torch.save({"rank1": np.float64(0.25)}, written, _use_new_zipfile_serialization=False)
    text, now = written.getvalue(), np.float64(0).__reduce__()[0].__module__.encode()
    assert now in text
    (tmp_path / "best_model.pth.tar").write_bytes(text.replace(now, module))
    assert checkpoint_io.load(tmp_path / "best_model.pth.tar") == {"rank1": 0.25}


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_failed_save_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "last.pth"
    checkpoint_io.save(path, {"step": 1})

    def fail(state: Any, file: Any) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"last\.pth") as caught:
        checkpoint_io.save(path, {"step": 2})
    assert "earlier checkpoints are intact" in caught.value.hint
    assert checkpoint_io.load(path) == {"step": 1}
    assert [left.name for left in tmp_path.iterdir()] == ["last.pth"]


def write_to_a_full_disk(path: Path, told: Path) -> None:
    """Save more than this process may write; note what was said."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        checkpoint_io.save(path, {"step": 2, "weights": torch.zeros(1_000_000)})
    except UserError as error:
        told.write_text(f"{error.message}\n{error.hint}")


def test_a_full_disk_is_told_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path, told = tmp_path / "last.pth", tmp_path / "told"
    checkpoint_io.save(path, {"step": 1})
    process = multiprocessing.get_context("fork").Process(
        target=write_to_a_full_disk, args=(path, told)
    )
    process.start()
    process.join()
    message, hint = told.read_text().splitlines()
    assert message == f"cannot write {path}: File too large"
    assert hint.startswith("free some space or ")
    assert checkpoint_io.load(path) == {"step": 1}
    assert not (tmp_path / "last.pth.part").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/last\.pth: File exists"):
        checkpoint_io.save(tmp_path / "file" / "last.pth", {"step": 1})


def test_the_first_error_is_told_where_the_half_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "last.pth"
    checkpoint_io.save(path, {"step": 1})
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoint_io.save(path, {"step": 2})
    assert checkpoint_io.load(path) == {"step": 1}
    assert (tmp_path / "last.pth.part").read_bytes() == b"half"


def test_a_file_is_on_the_disk_before_it_has_its_name(
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
    saved = checkpoint_io.save(tmp_path / "last.pth", {"step": 1})
    assert done == ["last.pth.part", "renamed", tmp_path.name]
    assert saved.name == "last.pth"
    assert saved.megabytes == (tmp_path / "last.pth").stat().st_size / 1e6
    assert saved.seconds > 0


def test_a_save_killed_midway_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pth"
    checkpoint_io.save(path, {"step": 1})

    def killed(state: Any, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_io.save(path, {"step": 2})
    assert checkpoint_io.load(path) == {"step": 1}


class Runs:
    """Unpickles by making a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled(state: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(state))


def unpickled(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


TORCH = (torch.save, partial(torch.load, weights_only=False))


@pytest.mark.parametrize(("write", "read"), [TORCH, (pickled, unpickled)])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, write: Any, read: Any) -> None:
    trace = tmp_path / "it ran"
    write({"step": 1, "code": Runs(trace)}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth"):
        checkpoint_io.load(tmp_path / "bad.pth")
    assert not trace.exists()
    read(tmp_path / "bad.pth")
    assert trace.exists()


def truncated() -> bytes:
    """The first half of a checkpoint."""
    content = io.BytesIO()
    torch.save({"weights": torch.zeros(1000)}, content)
    return content.getvalue()[: len(content.getvalue()) // 2]


UNREADABLE = {
    "truncated": truncated(),
    "empty": b"",
    "page": b"<!DOCTYPE html><html><body>Sign in to download</body></html>",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.pth"
    path.write_bytes(UNREADABLE[kind])
    with pytest.raises(UserError, match=rf"{kind}\.pth is no readable checkpoint") as caught:
        checkpoint_io.load(path)
    assert "weights_only" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("name", ["none.pth", "folder"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=rf"no checkpoint .*{name}"):
        checkpoint_io.load(tmp_path / name)


def test_a_file_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        checkpoint_io.load(tmp_path / "list.pth")


def test_loading_never_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def told(*given: Any, **options: Any) -> dict[str, Any]:
        asked.append((given, options))
        return {}

    monkeypatch.setattr(checkpoint_io, "read", told)
    checkpoint_io.load(tmp_path / "best.pth")
    assert asked == [((tmp_path / "best.pth",), {})]


def network() -> nn.Module:
    net = nn.Module()
    net.first = nn.Linear(2, 3)
    net.second = nn.Linear(3, 4)
    return net


def test_fitting_weights_are_loaded() -> None:
    net, other = network(), network()
    checkpoint_io.load_weights(net, other.state_dict(), "best.pth")
    torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


def test_weights_that_do_not_fit_are_listed_by_module() -> None:
    net = network()
    state = dict(net.state_dict())
    del state["first.weight"], state["first.bias"]
    state["second.weight"] = torch.zeros(4, 5)
    state["third.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        checkpoint_io.load_weights(net, state, "best.pth")
    assert caught.value.message == (
        "best.pth does not fit this network: 2 missing (first.* 2), 1 unexpected (third.* 1), "
        "1 misshapen (second.weight (4, 5) for (4, 3))"
    )


def test_weights_that_do_not_fit_change_nothing() -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError):
        checkpoint_io.load_weights(net, {"first.weight": torch.zeros(3, 2)}, "best.pth")
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_only_some_of_many_modules_are_listed() -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(9)])
    with pytest.raises(UserError) as caught:
        checkpoint_io.load_weights(net, {}, "best.pth")
    assert "18 missing" in caught.value.message
    assert "…" in caught.value.message
    assert len(caught.value.message) < 150
