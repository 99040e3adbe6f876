"""Caches: what they return is what was computed, whatever happened since or meanwhile."""

import errno
import os
import pickle
import shutil
from collections import namedtuple
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine import cache
from ffreid.engine.cache import Arrays, Cache, Plan, fill, find
from ffreid.errors import UserError

NAMES = tuple("abcdefghij")
COMMAND = "ffreid data cache"


def content_of(folder: Path, name: str) -> Arrays:
    """Arrays of several types and shapes that depend on a file."""
    size = len((folder / name).read_text())
    values = np.random.default_rng(size).normal(size=(size, 3))
    return values.astype(np.float32), np.arange(size, dtype=np.uint8), np.array(size)


def logged(folder: Path, name: str) -> Arrays | None:
    """The arrays; notes the call, in whatever process it is."""
    with (folder / "calls").open("a") as calls:
        calls.write(name)
    return None if name == "unreadable" else content_of(folder, name)


def calls(folder: Path) -> str:
    """Names that were computed since the last call of this function."""
    path = folder / "calls"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return "".join(sorted(text))


def plan_of(folder: Path, names: Sequence[str] = NAMES, **settings: Any) -> Plan:
    return Plan(
        name="letters",
        home=folder,
        settings={"size": 1, **settings},
        files=lambda: {name: [f"{folder}/{name}"] for name in names},
        compute=partial(logged, folder),
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_text("x" * (1 + 100 * number))
    return tmp_path


def opened(home: Path, **settings: Any) -> Cache:
    found = find(plan_of(home, **settings), "")
    assert found is not None
    return found


def check(home: Path, found: Cache, names: Sequence[str] = NAMES) -> None:
    """Check that these entries are there, bit for bit."""
    for name in names:
        arrays = found.get(name, [f"{home}/{name}"])
        assert arrays is not None
        for one, other in zip(arrays, content_of(home, name), strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_arrays_are_returned_as_they_were_computed(home: Path, workers: int) -> None:
    fill(plan_of(home), "", workers)
    found = opened(home)
    check(home, found)
    assert found.get("z", [f"{home}/z"]) is None
    check(home, pickle.loads(pickle.dumps(found)))  # as another process gets it


def test_nothing_is_computed_twice(home: Path) -> None:
    fill(plan_of(home, NAMES[:4]), "", 0)
    calls(home)
    fill(plan_of(home), "", 0)
    assert set(calls(home)) == set(NAMES[4:])
    fill(plan_of(home), "", 0)
    assert calls(home) == ""
    check(home, opened(home))


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_an_entry_whose_file_has_changed_is_not_used(
    home: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(plan_of(home), "", 0)
    before, calls_before = opened(home), calls(home)
    assert calls_before
    if change == "size":
        (home / "c").write_text("new")
    elif change == "time":
        os.utime(home / "c", ns=(0, 0))
    else:
        (home / "c").unlink()
    capsys.readouterr()
    for found in (before, opened(home)):
        assert found.get("c", [f"{home}/c"]) is None
        check(home, found, "abdefghij")
    assert "1 of 10 entries, e.g. c, are missing" in capsys.readouterr().err
    if change != "gone":
        fill(plan_of(home), "", 0)
        assert set(calls(home)) == {"c"}
        check(home, opened(home))
        assert before.get("c", [f"{home}/c"]) is None


def test_settings_have_caches_of_their_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find(plan_of(home), "") is None
    assert capsys.readouterr().err == ""
    fill(plan_of(home), "", 0)
    assert find(plan_of(home), "none") is None
    capsys.readouterr()
    assert find(plan_of(home, size=2), "") is None
    assert f"have other settings: {COMMAND}" in capsys.readouterr().err
    elsewhere = str(home / "elsewhere")
    assert find(plan_of(home), elsewhere) is None
    assert f"no cache in {elsewhere} is used, there is none: " in capsys.readouterr().err
    fill(plan_of(home), elsewhere, 0)
    found = find(plan_of(home), elsewhere)
    assert found is not None
    check(home, found)


def test_what_a_killed_process_leaves_is_continued(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "KEPT_EVERY", 1)
    monkeypatch.setattr(cache, "_BATCH", 2)
    child = os.fork()
    if not child:
        names = NAMES

        def compute(name: str) -> Arrays | None:
            if name == "e":
                os._exit(9)
            return logged(home, name)

        fill(Plan("letters", home, {"size": 1}, plan_of(home, names).files, compute), "", 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    folder = plan_of(home).folder("")
    with (folder / cache.ARRAYS).open("ab") as file:
        file.write(b"a part")
    with (folder / cache.INDEX).open("ab") as file:
        file.write(b'["e", [1')
    calls(home)
    fill(plan_of(home), "", 2)
    assert set(calls(home)) == set("efghij")
    check(home, opened(home))


@pytest.mark.parametrize(("full", "kept"), [(cache.ARRAYS, "abcdefg"), (cache.INDEX, "")])
def test_a_full_disk_loses_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, full: str, kept: str
) -> None:
    write, limit = cache._write, 30_000 if kept else 0

    def limited(file: Any, content: bytes) -> None:
        path = Path(file.name)
        if path.name == full and path.stat().st_size + len(content) > limit:
            write(file, content[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", limited)
        patch.setattr(cache, "KEPT_EVERY", 9000)
        with pytest.raises(UserError, match=r"cannot write the cache .*No space left") as caught:
            fill(plan_of(home), "", 0)
    assert caught.value.hint.startswith("free space to go on with what is written")
    calls(home)
    fill(plan_of(home), "", 0)
    assert set(calls(home)) == set(NAMES) - set(kept)
    check(home, opened(home))


def test_too_little_space_is_known_before_anything_is_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 8, 1000))
    with pytest.raises(UserError, match=r"the cache needs 0\.0 GB, .* has 0\.0 GB") as caught:
        fill(plan_of(home), "", 0)
    assert "--out FOLDER" in caught.value.hint
    assert not (plan_of(home).folder("") / cache.ARRAYS).exists()


def test_a_folder_that_cannot_be_written_is_an_error(home: Path) -> None:
    (home / cache.FOLDER).write_text("not a folder")
    with pytest.raises(UserError, match=f"cannot write the cache {home}") as caught:
        fill(plan_of(home), "", 0)
    assert caught.value.hint == "use --out FOLDER"


def test_only_one_process_fills_a_cache(home: Path) -> None:
    def compute(name: str) -> Arrays | None:
        child = os.fork()
        if not child:
            try:
                fill(plan_of(home), "", 0)
            except UserError as error:
                os._exit(7 if "another process is filling" in error.message else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        return content_of(home, name)

    fill(Plan("letters", home, {"size": 1}, plan_of(home, "a").files, compute), "", 0)
    check(home, opened(home), "a")


def test_damaged_arrays_are_an_error(home: Path) -> None:
    path = fill(plan_of(home), "", 0) / cache.ARRAYS
    content = bytearray(path.read_bytes())
    content[-600] ^= 4
    path.write_bytes(content)
    found = opened(home)
    check(home, found, NAMES[:-1])
    with pytest.raises(UserError, match=f"the cache {path.parent} is damaged: j") as caught:
        found.get("j", [f"{home}/j"])
    assert "remove this folder" in caught.value.hint


@pytest.mark.parametrize("is_gone", [False, True])
def test_arrays_that_are_missing_are_an_error(home: Path, is_gone: bool) -> None:
    path = fill(plan_of(home), "", 0) / cache.ARRAYS
    found = opened(home)
    content = path.read_bytes()
    path.unlink()
    if not is_gone:
        path.write_bytes(content[:-512])
    for use in (lambda: opened(home), lambda: fill(plan_of(home), "", 0)):
        with pytest.raises(UserError, match=r"is damaged: arrays\.bin is too short"):
            use()
    with pytest.raises(UserError, match="is damaged: j"):  # it was there when it was opened
        found.get("j", [f"{home}/j"])


@pytest.mark.parametrize("line", [b"[]\n", b"[1]\n", b"{}\n", b"nonsense\n"])
def test_a_damaged_index_is_an_error(home: Path, line: bytes) -> None:
    path = fill(plan_of(home), "", 0) / cache.INDEX
    path.write_bytes(path.read_bytes() + line)
    for use in (lambda: opened(home), lambda: fill(plan_of(home), "", 0)):
        with pytest.raises(UserError, match="is damaged: index"):
            use()


def test_unreadable_entries_are_left_out_and_counted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (*NAMES, "unreadable")
    (home / "unreadable").write_text("?")
    fill(plan_of(home, names), "", 0)
    assert "note: 1 entries cannot be read and are left out" in capsys.readouterr().err
    found = opened(home)
    check(home, found)
    assert found.get("unreadable", [f"{home}/unreadable"]) is None
