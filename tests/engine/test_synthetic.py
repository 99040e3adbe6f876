"""Toy data: when they are generated, reused, replaced and refused, also by several processes."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from ffreid import tasks
from ffreid.engine import synthetic
from ffreid.errors import UserError
from ffreid.recipes import compose

FACTS = {"version": 1, "count": 3}
OTHERS = {"version": 1, "count": 4}
Write = Callable[[], None]


def writer(folder: Path, text: str = "new") -> Write:
    """Write one file below a part, and say so in a log beside `folder`."""

    def write() -> None:
        (folder / "part").mkdir()
        (folder / "part/file").write_text(text)
        with (folder.parent / "log").open("a") as log:
            log.write(text + "\n")

    return write


def ensure(folder: Path, facts: synthetic.Parameters = FACTS, write: Write | None = None) -> Path:
    return synthetic.generate_once(
        folder, write or writer(folder), parameters=facts, parts=("part", "list.txt")
    )


def calls(folder: Path) -> int:
    return len((folder.parent / "log").read_text().splitlines())


@pytest.mark.parametrize("empty", [False, True], ids=["new", "empty"])
def test_a_new_or_empty_folder_is_written_and_says_what_it_holds(
    tmp_path: Path, empty: bool
) -> None:
    folder = tmp_path / "deep/folder"
    if empty:
        folder.mkdir(parents=True)
    assert ensure(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["part", "toy.json"]
    text = (folder / "toy.json").read_text()
    assert text == '{"version": 1, "count": 3, "finished": true}\n'


def test_finished_data_are_not_written_again(tmp_path: Path) -> None:
    for _ in range(2):
        ensure(tmp_path / "toy")
    assert calls(tmp_path / "toy") == 1


def test_finished_data_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ensure(tmp_path / "toy")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read only")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert ensure(folder) == folder
    with pytest.raises(UserError, match="read only"):
        ensure(folder, OTHERS)


def test_data_of_other_facts_are_replaced_and_the_user_s_own_files_stay(tmp_path: Path) -> None:
    folder = ensure(tmp_path / "toy")
    (folder / "part/old").write_text("")
    (folder / "list.txt").write_text("")
    (folder / "notes").write_text("mine")
    ensure(folder, OTHERS, writer(folder, "other"))
    assert not (folder / "part/old").exists()
    assert not (folder / "list.txt").exists()
    assert (folder / "part/file").read_text() == "other"
    assert (folder / "notes").read_text() == "mine"
    assert json.loads((folder / "toy.json").read_text()) == {**OTHERS, "finished": True}


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError("no", "none"), OSError("full")])
def test_what_was_left_unfinished_is_made_anew(
    tmp_path: Path, error: type[BaseException] | BaseException
) -> None:
    folder = tmp_path / "toy"

    def stop() -> None:
        (folder / "part").mkdir()
        (folder / "part/half").write_text("")
        raise error

    with pytest.raises((KeyboardInterrupt, UserError)):
        ensure(folder, write=stop)
    assert json.loads((folder / "toy.json").read_text())["finished"] is False
    ensure(folder)
    assert [path.name for path in (folder / "part").iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", '{"vers', "[]", "3", "\x00"])
def test_a_broken_marker_counts_as_unfinished(tmp_path: Path, text: str) -> None:
    folder = ensure(tmp_path / "toy")
    (folder / "toy.json").write_text(text)
    ensure(folder)
    assert calls(folder) == 2


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    with pytest.raises(UserError, match="not empty and holds no toy data") as caught:
        ensure(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


@pytest.mark.parametrize("kinds", [{"kind": "a"}, {"kind": "b"}], ids=["one named", "both named"])
def test_toy_data_of_another_kind_are_refused(tmp_path: Path, kinds: dict[str, str]) -> None:
    folder = ensure(tmp_path / "toy", {**FACTS, **({} if kinds["kind"] == "a" else {"kind": "a"})})
    with pytest.raises(UserError, match="another kind"):
        ensure(folder, {**FACTS, **kinds})
    assert calls(folder) == 1


@pytest.mark.parametrize("name", ["file", "file/toy"])
def test_a_place_that_cannot_be_written_is_the_user_s_to_mend(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write toy data to") as caught:
        ensure(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize("second", [FACTS, OTHERS], ids=["same", "others"])
def test_who_asks_while_another_writes_waits_for_it(
    tmp_path: Path, second: synthetic.Parameters
) -> None:
    folder, begun, finish = tmp_path / "toy", Event(), Event()

    def slowly() -> None:
        begun.set()
        assert finish.wait(10)
        writer(folder)()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ensure, folder, FACTS, slowly)
        assert begun.wait(10)
        waiting = pool.submit(ensure, folder, second)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
        finish.set()
        assert first.result(10) == waiting.result(10) == folder
    assert calls(folder) == (1 if second is FACTS else 2)
    assert json.loads((folder / "toy.json").read_text()) == {**second, "finished": True}


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert ensure(tmp_path / "toy") == tmp_path / "toy"
    assert calls(tmp_path / "toy") == 1


ASK = """
import sys
from pathlib import Path
from ffreid.engine import synthetic
def write():
    raise SystemExit("writes as well")
print("asking", flush=True)
facts = {"version": 1, "count": 3}
folder = synthetic.generate_once(Path(sys.argv[1]), write, parameters=facts, parts=["part"])
print((folder / "part/file").read_text())
"""


def test_another_process_waits_too(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asking: list[subprocess.Popen[str]] = []

    def slowly() -> None:
        command = [sys.executable, "-c", ASK, str(folder)]
        asking.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert asking[0].stdout is not None
        assert asking[0].stdout.readline() == "asking\n"
        with pytest.raises(subprocess.TimeoutExpired):
            asking[0].wait(0.2)
        writer(folder)()

    ensure(folder, write=slowly)
    assert asking[0].communicate(timeout=10)[0] == "new\n"
    assert asking[0].returncode == 0


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


def test_the_folder_of_new_toy_data_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        ensure(tmp_path / "toy")
    assert capsys.readouterr().err.count(f"generating toy data in {tmp_path}") == 1
