"""Toy data: when they are generated, reused, replaced and refused, also by several processes."""

import errno
import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffreid import tasks
from ffreid.engine import synthetic
from ffreid.errors import UserError
from ffreid.recipes import compose
from tests.engine.checkpoints.test_manager import raising

PARAMETERS = {"version": 1, "count": 3}
OTHER_PARAMETERS = {"version": 1, "count": 4}


def generate(
    folder: Path,
    parameters: synthetic.Parameters = PARAMETERS,
    before: Callable[[], object] = lambda: None,
) -> Path:
    """Generate one file below a part, and a line in a log next to `folder`."""

    def write(made: Path) -> None:
        (made / "part").mkdir()
        before()
        (made / "part/file").write_text(str(parameters["count"]))
        with (folder.parent / "log").open("a") as log:
            log.write("written\n")

    return synthetic.generate_once(folder, write, parameters=parameters)


def calls(folder: Path) -> int:
    return len((folder.parent / "log").read_text().splitlines())


def test_data_are_generated_once_which_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep/folder"
    assert generate(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["part", "toy.json"]
    assert (folder / "toy.json").read_text() == '{"version": 1, "count": 3, "finished": true}\n'

    for name in ("mkdir", "write_text"):
        monkeypatch.setattr(Path, name, raising(PermissionError(13, "read only")))
    assert generate(folder) == folder
    assert capsys.readouterr().err.count(f"generating toy data in {tmp_path}") == 1
    with pytest.raises(UserError, match="read only"):
        generate(tmp_path / "other")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"part/mine": "a"}, "is not empty and contains no toy data"),
        ({"toy.json": ""}, "is not empty and contains no toy data"),
        ({"toy.json": "[]", "part/mine": "a"}, "is not empty and contains no toy data"),
        (
            {"toy.json": json.dumps(OTHER_PARAMETERS | {"finished": True})},
            "count 4, not 3",
        ),
        ({"toy.json": json.dumps(PARAMETERS | {"finished": False})}, "finished False, not True"),
        ({"toy.json": '{"version": 1, "count": "\\u001b[2J"}'}, r"count '\\x1b\[2J', not 3"),
        ({"toy.json": '{"kind": "a", "count": 3}', "part/mine": "a"}, "toy data of another kind"),
    ],
)
def test_other_content_is_refused_and_nothing_is_deleted(
    tmp_path: Path, files: dict[str, str], text: str
) -> None:
    folder = tmp_path / "toy"
    (folder / "part").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=text):
        generate(folder)
    assert {name: (folder / name).read_text() for name in files} == files
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_finished_data_with_further_files_are_reused(tmp_path: Path) -> None:
    folder = generate(tmp_path / "toy")
    (folder / "part/mine").write_text("a")
    assert generate(folder) == folder
    assert (folder / "part/mine").read_text() == "a"
    assert calls(folder) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no", "none"), OSError("full")])
def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "toy"

    def stop() -> None:
        raise error

    with pytest.raises((KeyboardInterrupt, UserError)):
        generate(folder, before=stop)
    assert not list(tmp_path.iterdir())
    generate(folder)
    assert [path.name for path in (folder / "part").iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file", "file/toy"])
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write toy data to {tmp_path / name}"):
        generate(tmp_path / name)


def start_and_generate(folder: Path, started: Any) -> None:
    started.set()
    generate(folder)


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    folder, context = tmp_path / "toy", multiprocessing.get_context("spawn")
    started = context.Event()
    waiting = context.Process(target=start_and_generate, args=(folder, started), daemon=True)

    def start_second() -> None:
        waiting.start()
        assert started.wait(60)
        waiting.join(0.2)
        assert waiting.is_alive()

    generate(folder, before=start_second)
    waiting.join(10)
    assert waiting.exitcode == 0
    assert calls(folder) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_file_systems_without_locks_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    folder = tmp_path / "toy"
    generate(folder, before=lambda: generate(folder))  # as another process does meanwhile
    assert calls(folder) == 2
    assert [path.name for path in (folder / "part").iterdir()] == ["file"]


def test_toy_data_go_to_the_cache_or_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFREID_CACHE", "/cache")
    assert synthetic.toy_folder("", "toy", "4-2") == Path("/cache/toy/4-2")
    monkeypatch.delenv("FFREID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert synthetic.toy_folder("", "toy", "4-2") == Path("/xdg/ffreid/toy/4-2")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert synthetic.cache_folder() == Path.home() / ".cache" / "ffreid"
    assert synthetic.toy_folder(str(tmp_path), "toy", "4-2") == tmp_path / "toy" / "4-2"
    (tmp_path / synthetic.INFO_FILE).write_text("{}")
    assert synthetic.toy_folder(str(tmp_path), "toy", "4-2") == tmp_path


@pytest.mark.parametrize("dataset", ["toy-pose", "toy-reid", "toy-reid-video"])
def test_toy_data_never_go_to_the_folder_of_the_datasets(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFREID_DATA", str(tmp_path))
    for root, expected in ((None, synthetic.cache_folder()), (tmp_path, tmp_path)):
        cfg = compose(dataset, root=root)
        folder = tasks.modules(cfg.TASK).sources.synthetic_folder(cfg)
        assert folder is not None
        assert folder.is_relative_to(expected)
