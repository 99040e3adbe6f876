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

    def write() -> None:
        (folder / "part").mkdir()
        before()
        (folder / "part/file").write_text(str(parameters["count"]))
        with (folder.parent / "log").open("a") as log:
            log.write("written\n")

    return synthetic.generate_once(folder, write, parameters=parameters, parts=("part", "list.txt"))


def info(folder: Path) -> object:
    return json.loads((folder / "toy.json").read_text())


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
        generate(folder, OTHER_PARAMETERS)


def test_data_of_other_parameters_are_replaced_and_other_files_kept(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    folder = generate(tmp_path / "toy")
    for name in ("part/old", "list.txt", "notes"):
        (folder / name).write_text("mine")
    generate(folder, OTHER_PARAMETERS)
    assert {path.name for path in folder.rglob("*")} == {"part", "file", "notes", "toy.json"}
    assert (folder / "part/file").read_text() == "4"
    assert info(folder) == {**OTHER_PARAMETERS, "finished": True}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no", "none"), OSError("full")])
def test_incomplete_data_are_replaced(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "toy"

    def stop() -> None:
        (folder / "part/half").write_text("")
        raise error

    with pytest.raises((KeyboardInterrupt, UserError)):
        generate(folder, before=stop)
    assert info(folder) == {**PARAMETERS, "finished": False}
    generate(folder)
    assert [path.name for path in (folder / "part").iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", '{"vers', "[]", "\x00"])
def test_data_with_a_broken_info_file_are_replaced(tmp_path: Path, text: str) -> None:
    folder = generate(tmp_path / "toy")
    (folder / "toy.json").write_text(text)
    generate(folder)
    assert calls(folder) == 2


def test_folders_of_other_content_and_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path} is not empty and contains no toy data"):
        generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]
    for first, second in (({}, {"kind": "a"}), ({"kind": "a"}, {"kind": "b"})):
        folder = generate(tmp_path / f"toy{len(first)}", {**PARAMETERS, **first})
        with pytest.raises(UserError, match="another kind"):
            generate(folder, {**PARAMETERS, **second})


@pytest.mark.parametrize("name", ["file", "file/toy"])
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write toy data to {tmp_path / name}"):
        generate(tmp_path / name)


def start_and_generate(folder: Path, parameters: synthetic.Parameters, started: Any) -> None:
    started.set()
    generate(folder, parameters)


@pytest.mark.parametrize("second", [PARAMETERS, OTHER_PARAMETERS], ids=["same", "others"])
def test_a_second_process_waits_for_the_first(tmp_path: Path, second: synthetic.Parameters) -> None:
    folder, context = tmp_path / "toy", multiprocessing.get_context("spawn")
    started = context.Event()
    waiting = context.Process(
        target=start_and_generate, args=(folder, second, started), daemon=True
    )

    def start_second() -> None:
        waiting.start()
        assert started.wait(60)
        waiting.join(0.2)
        assert waiting.is_alive()

    generate(folder, before=start_second)
    waiting.join(10)
    assert waiting.exitcode == 0
    assert calls(folder) == (1 if second is PARAMETERS else 2)
    assert info(folder) == {**second, "finished": True}


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_file_systems_without_locks_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    generate(tmp_path / "toy")
    assert calls(tmp_path / "toy") == 1


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
