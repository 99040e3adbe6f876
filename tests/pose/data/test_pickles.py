"""Pickles of arrays are read; any other pickle is refused."""

import fractions
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.data.pickles import read_arrays
from tests import fuzz


class Harmful:
    """Creates a folder when it is unpickled by the ordinary unpickler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def arrays() -> dict[str, Any]:
    return {
        "rgb": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "depth": np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4),
        "number": np.float64(0.5),
        "name": "ape",
        "list": [1, 2.5, None],
    }


def read(folder: Path, content: bytes, *needed: str) -> dict[str, Any]:
    (folder / "a.pkl").write_bytes(content)
    return read_arrays(folder / "a.pkl", needed)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_and_numpy_are_read(
    tmp_path: Path, protocol: int, core: bytes
) -> None:
    content = pickle.dumps(arrays(), protocol)
    assert b"numpy._core" in content
    if protocol < 3:  # later ones store the length of a name
        content = content.replace(b"numpy._core", core)
    item = read(tmp_path, content, "rgb", "depth")
    np.testing.assert_array_equal(item["rgb"], arrays()["rgb"])
    np.testing.assert_array_equal(item["depth"], arrays()["depth"])
    assert (item["number"], item["name"], item["list"]) == (0.5, "ape", [1, 2.5, None])


def test_code_is_refused_by_name_and_does_not_run(tmp_path: Path) -> None:
    content = {"rgb": Harmful(tmp_path / "it ran"), "half": fractions.Fraction(1, 2)}
    with pytest.raises(UserError, match=r"a.pkl contains more than arrays") as raised:
        read(tmp_path, pickle.dumps(content), "rgb")
    assert not (tmp_path / "it ran").exists()
    assert "posix.mkdir" in raised.value.message or "nt.mkdir" in raised.value.message
    assert "fractions.Fraction" in raised.value.message


@pytest.mark.parametrize("content", [{"rgb": 1}, [1, 2], None])
def test_a_missing_key_or_file_is_an_error(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"a.pkl lacks .*depth"):
        read(tmp_path, pickle.dumps(content), "rgb", "depth")
    with pytest.raises(UserError, match=r"no file .*gone.pkl"):
        read_arrays(tmp_path / "gone.pkl", ())


HOSTILE = {
    "truncated": pickle.dumps(arrays())[:-9],
    "empty": b"",
    # 60 GB in the unpickler that is written in C.
    "memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "array": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    # ``numpy.dtype("f8")`` is one object of the process: its state would change everywhere.
    "dtype": pickle.dumps(arrays(), 2).replace(b"\x89\x88\x87", b"\x89\x89\x87"),
    "copied dtype": b"\x80\x02cnumpy\ndtype\nU\x02f8\x85\x812(K\x03U\x01>NNNK\x00K\x00K\x00tb.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_take_no_memory_and_change_nothing(tmp_path: Path, case: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path, HOSTILE[case])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert np.dtype("f8").isnative


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_that_repeat_others_are_refused_before_they_become_arrays(
    tmp_path: Path, kind: Any
) -> None:
    nested: Any = [0.0] * 8
    for _ in range(14 if kind is tuple else 40):
        nested = kind([nested] * 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"K repeats its lists|damaged"):
        read(tmp_path, pickle.dumps({"K": nested}), "K")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    matrix = [[1.0, 0.0, 0.5]] * 3
    assert read(tmp_path, pickle.dumps({"K": matrix}), "K") == {"K": matrix}


def test_damaged_pickles_are_refused_or_read(tmp_path: Path) -> None:
    outcomes = {True: 0, False: 0}
    for number in range(300):
        random = np.random.RandomState(number)
        content = pickle.dumps(arrays(), (2, 4, 5)[number % 3])
        damage = fuzz.DAMAGES[random.randint(len(fuzz.DAMAGES))]
        try:
            outcomes[isinstance(read(tmp_path, damage(content, random), "rgb"), dict)] += 1
        except UserError as error:
            assert (error.message + error.hint).isprintable()
            outcomes[False] += 1
    assert min(outcomes.values()) > 10
