"""What is no regular file is refused by name at once, wherever a path is taken."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ffreid
from ffreid.config import merge_file
from ffreid.engine import dataset_files
from ffreid.engine.checkpoints import reader
from ffreid.engine.tracking import run_state
from ffreid.engine.tracking.runs import Run
from ffreid.errors import UserError
from ffreid.files import check_file
from ffreid.migrate import print_migration
from ffreid.pose.data import meshes, pickles
from ffreid.pose.data.ycb import YcbReader
from ffreid.pose.objects import ycb_objects
from ffreid.pose.predictions import read_text_poses
from ffreid.reid import features
from ffreid.reid.data.readers import folder
from tests.test_config import tree


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in a block that takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


PLACES = (
    "x.csv",
    "0048_002_master_chef_can.txt",
    "models/002_master_chef_can/points.xyz",
    "dataset_config/test_data_list.txt",
)
"""Where the readers of a folder find a file, here a link to x.sh."""
NO_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "fifo": (os.mkfifo, "it is a pipe"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "link to nowhere": (
        lambda path: path.symlink_to("gone\x1b"),
        r"it is a link to gone\x1b, which does not exist",
    ),
    "link in a circle": (lambda path: path.symlink_to(path.name), ""),
    "socket": (a_socket, "it is a socket"),
}


@pytest.fixture(params=NO_FILES)
def no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Path, str]:
    """A path that is no file, and what it is."""
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    make, what = NO_FILES[request.param]
    make(Path("x.sh"))
    Path("data").mkdir()
    for name in PLACES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(tmp_path / "x.sh")
    return Path("x.sh"), what


READERS: dict[str, Callable[[Path], object]] = {
    "check": lambda path: check_file(path, "file", "use another"),
    "checkpoint": reader.read,
    "checkpoint of the API": ffreid.load_checkpoint,
    "configuration": lambda path: merge_file(tree(), path),
    "list": dataset_files.read_lines,
    "image": dataset_files.open_image,
    "depth": lambda path: dataset_files.read_single_channel(path, "depth image"),
    "features": lambda path: features.load(path, "ltcc"),
    "pickle": lambda path: pickles.read_arrays(path, ()),
    "mesh": meshes.read_ply,
    "table": lambda _: folder.read(Path()),
    "vertices": lambda _: meshes.read_xyz_meshes(Path(), ycb_objects()),
    "frame list": lambda _: YcbReader(Path(), ycb_objects()).test_names,
    "poses": lambda _: read_text_poses(Path(), ["0048/000001"], ycb_objects()),
    "script": lambda path: print_migration([str(path)]),
}


@pytest.mark.parametrize("name", READERS)
def test_paths_that_are_not_files_are_refused(no_file: tuple[Path, str], name: str) -> None:
    path, what = no_file
    with within(5), pytest.raises(UserError) as caught:
        READERS[name](path)
    message = caught.value.message
    assert any(place in message for place in (str(path), *PLACES))
    if not (name == "checkpoint" and path.is_dir()):  # its error lists the folder
        assert ("a link to" if "a link to" in what else what) in message
    assert message.isprintable()


def test_a_run_without_regular_files_is_named_or_has_no_state(no_file: tuple[Path, str]) -> None:
    path, _ = no_file
    for name in ("metrics.jsonl", "state.json", "config.yaml"):
        Path(name).symlink_to(path)
    run = Run(Path(), "a")
    with within(5):
        assert run_state.read(Path()) is None
        for name in ("metrics", "settings"):
            with pytest.raises(UserError, match=r"cannot read (metrics|config)"):
                getattr(run, name)
