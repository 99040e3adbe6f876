"""Files are written completely or not at all; JSON files can be read by every parser."""

import contextlib
import json
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffreid import atomic
from ffreid.errors import UserError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (torch.tensor([[1.5]]), [[1.5]]),
        ((1, "a", None), [1, "a", None]),
        (float("nan"), None),
        (np.array([1.0, np.inf]), [1.0, None]),
        ({1: -math.inf}, {"1": None}),
        (Path("a/b"), "a/b"),
        (True, True),
    ],
)
def test_values_become_json_data(value: Any, expected: Any) -> None:
    data = atomic.to_json_data(value)
    assert data == expected
    assert json.loads(json.dumps(data, allow_nan=False)) == expected


def test_json_is_written_unrounded_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    atomic.write_json(path, {"error": 0.1 + 0.2, "absent": float("nan")})
    assert json.loads(path.read_text()) == {"error": 0.1 + 0.2, "absent": None}
    with pytest.raises(UserError, match=r"results\.json/a\.json") as caught:
        atomic.write_json(path / "a.json", {})
    assert "--json" in caught.value.hint


def test_an_interrupted_write_keeps_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    atomic.write_json(path, {"step": 1})
    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_json_goes_through_a_link_and_into_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target.json")
    atomic.write_json(link, {"step": 1})
    assert link.is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == {"step": 1}
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    atomic.write_json(pipe, {"step": 2})
    assert json.loads(os.read(reading, 100)) == {"step": 2}
    os.close(reading)
    assert pipe.is_fifo()


def test_checking_that_a_file_can_be_written_does_not_change_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    for name in ("old", "new", "link", "folder/new"):
        for stream in (True, False):
            atomic.check_writable(tmp_path / name, stream=stream, magic=b"ke")
    with pytest.raises(UserError, match="old is another kind of file: it starts with b'k'"):
        atomic.check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"old", "link", "folder"}
    assert (tmp_path / "link").is_symlink()
    assert not list((tmp_path / "folder").iterdir())


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(path.parent):
        opened.bind(path.name)
    return path


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (make_fifo, "it is a pipe"),
        (make_socket, "it is a socket"),
        (make_folder, "it is a folder"),
        (lambda path: path / ("x" * 256), "File name too long"),
        (lambda path: path / ("é" * 128), "File name too long"),
        (lambda path: make_fifo(path) / "b.json", "Not a directory|File exists"),
        (lambda path: Path("/proc/a.json"), ""),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_unwritable_path_is_refused_immediately(
    tmp_path: Path, make: Callable[[Path], Path], problem: str, stream: bool
) -> None:
    path = make(tmp_path / "a")
    with pytest.raises(UserError, match=f"cannot write .*: .*({problem})"):
        atomic.check_writable(path, stream=stream)


def test_devices_and_pipes_of_the_shell_are_for_streams_only() -> None:
    reading, writing = os.pipe()
    for path in (Path("/dev/null"), Path(f"/dev/fd/{writing}")):
        atomic.check_writable(path)
        with pytest.raises(UserError, match=r"it is a (device|pipe)"):
            atomic.check_writable(path, stream=False)
    os.close(reading)
    os.close(writing)
