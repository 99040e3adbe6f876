"""Pickles of arrays, and of anything else."""

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
    """Runs a command when it is unpickled by the ordinary unpickler."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def arrays() -> dict[str, Any]:
    return {
        "rgb": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "depth": np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4),
        "number": np.float64(0.5),
        "name": "ape",
        "list": [1, 2.5, None],
    }


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_arrays_are_read_under_both_of_numpys_spellings(
    tmp_path: Path, protocol: int, core: bytes
) -> None:
    content = pickle.dumps(arrays(), protocol)
    assert b"numpy._core" in content
    path = tmp_path / "a.pkl"
    path.write_bytes(content.replace(b"numpy._core", core))
    item = read_arrays(path, ("rgb", "depth"))
    np.testing.assert_array_equal(item["rgb"], arrays()["rgb"])
    np.testing.assert_array_equal(item["depth"], arrays()["depth"])
    assert (item["number"], item["name"], item["list"]) == (0.5, "ape", [1, 2.5, None])


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_read_in_newer_protocols(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(arrays(), protocol))
    np.testing.assert_array_equal(read_arrays(path, ("rgb",))["rgb"], arrays()["rgb"])


def test_what_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"rgb": Harmful(marker), "half": fractions.Fraction(1, 2)}))
    with pytest.raises(UserError, match=r"a.pkl asks for more than arrays") as raised:
        read_arrays(path, ("rgb",))
    assert not marker.exists()
    assert "posix.mkdir" in raised.value.message or "nt.mkdir" in raised.value.message
    assert "fractions.Fraction" in raised.value.message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_pickle_is_named(tmp_path: Path, share: float) -> None:
    content = pickle.dumps(arrays())
    path = tmp_path / "a.pkl"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cannot read .*a.pkl"):
        read_arrays(path, ("rgb",))


@pytest.mark.parametrize("content", [{"rgb": 1}, [1, 2], None])
def test_missing_keys_are_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"a.pkl lacks .*depth"):
        read_arrays(path, ("rgb", "depth"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*gone.pkl"):
        read_arrays(tmp_path / "gone.pkl", ())


def test_a_state_for_a_shared_dtype_is_refused(tmp_path: Path) -> None:
    """``numpy.dtype("f8")`` is one object of the process: its state would change everywhere."""
    content = pickle.dumps(arrays(), 2)
    shared = content.replace(b"\x89\x88\x87", b"\x89\x89\x87")  # False, True: as a copy
    assert shared != content
    (tmp_path / "0.pkl").write_bytes(shared)
    with pytest.raises(UserError, match="cannot read"):
        read_arrays(tmp_path / "0.pkl", ["rgb"])


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # a memo of 60 GB in the unpickler written in C
        b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02cnumpy\ndtype\nU\x02f8\x85\x81"
        + b"2(K\x03U\x01>NNNJ\xff\xff\xff\xffK\x00K\x00tb.",
    ],
    ids=["memo", "array", "dtype"],
)
def test_hostile_pickles_take_no_memory_and_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.pkl").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="cannot read"):
        read_arrays(tmp_path / "0.pkl", [])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert np.dtype("f8").isnative


def test_damaged_pickles_are_refused_or_read(tmp_path: Path) -> None:
    path, outcomes = tmp_path / "0.pkl", {True: 0, False: 0}
    for number in range(300):
        random = np.random.RandomState(number)
        content = pickle.dumps(arrays(), (2, 4, 5)[number % 3])
        path.write_bytes(fuzz.DAMAGES[random.randint(len(fuzz.DAMAGES))](content, random))
        try:
            outcomes[isinstance(read_arrays(path, ["rgb"]), dict)] += 1
        except UserError as error:
            assert (error.message + error.hint).isprintable()
            outcomes[False] += 1
    assert min(outcomes.values()) > 10
