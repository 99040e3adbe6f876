"""Hostile pickles are refused before anything in them is loaded."""

import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.checkpoints.test_reader import refused, repacked
from tests.fuzz import zip_save


def zip_of_pickle(content: bytes) -> bytes:
    """A checkpoint with one storage of 99 floats and this pickle."""
    saved = zip_save({"weights": torch.zeros(99)})
    return repacked(saved, lambda name, data: content if name.endswith("data.pkl") else data)


HOSTILE = {
    "a name on the stack": (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "weights: builtins.eval"),
    "a name in the memo": (
        b"\x80\x04\x8c\x08builtins\x940\x8c\x04eval\x940h\x00h\x01\x93.",
        "weights: builtins.eval",
    ),
    "a computed name": (
        b"\x80\x04c_codecs\nencode\n\x8c\x02os\x8c\x06latin1\x86R\x8c\x06system\x93.",
        "weights: a global whose name is computed",
    ),
    "a name of Python 2": (b"\x80\x02c__builtin__\neval\n.", "weights: builtins.eval"),
    "an instance": (b"(iposix\nsystem\n.", "weights: posix.system"),
    "an object": (b"(cposix\nsystem\no.", "weights: posix.system"),
    "an extension": (b"\x80\x02\x82\x07.", "weights: copyreg extension 7"),
    "a name for the terminal": (b"c\x1b[31m\nname\n.", r"weights: \x1b[31m.name"),
    "a new storage": (
        b"\x80\x02ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85\x81.",
        "damaged or truncated",
    ),
    "a called storage": (
        b"\x80\x02ctorch.storage\nUntypedStorage\nM\xff\xff\x85R.",
        "it contains a UntypedStorage",
    ),
    "a bare type": (b"\x80\x02ctorch\nFloatStorage\n.", "it contains a StorageType"),
    "a shared dtype": (b"\x80\x02cnumpy\ndtype\nU\x02f8\x89\x89\x87R.", "damaged or truncated"),
    "a dtype of another order": (
        b"\x80\x02cnumpy\ndtype\nU\x02f8\x89\x88\x87R(K\x03U\x01<NNNK\x09K\x09K\x3ftb.",
        "damaged or truncated",
    ),
    "deep tuples as a key": (b"\x80\x02}K\x00" + b"\x85" * 10**6 + b"Ns.", "damaged or truncated"),
    # Tuples of eight times the one before, through the memo: 8 ** 15 items.
    "shared tuples as a key": (
        b"\x80\x02}(K\x00K\x01tq\x00"
        + b"".join(b"0(" + b"h%c" % (level - 1) * 8 + b"tq%c" % level for level in range(1, 15))
        + b"Ns.",
        "damaged or truncated",
    ),
    "a large key for each of many values": (
        b"\x80\x02}(" + b"K\x00" * 10**4 + b"tq\x000" + b"h\x00Ns" * 10**4 + b".",
        "damaged or truncated",
    ),
    "an integer of 3,000 digits": (
        b"\x80\x02}U\x04step\x8b\x00\x05\x00\x00" + b"\x01" * 1280 + b"s.",
        "damaged or truncated",
    ),
    "keys of the same hash": (
        b"\x80\x02}("
        + b"".join(pickle.dumps(n * (2**61 - 1), 2)[2:-1] + b"N" for n in range(1, 99))
        + b"u.",
        "damaged or truncated",
    ),
    "an attribute of a dict": (
        b"\x80\x02ccollections\nOrderedDict\n)R}U\x05itemsK\x01sb.",
        "a dict has attributes",
    ),
    "an index of billions": (b"\x80\x02}r\xff\xff\xff\xff.", "damaged or truncated"),
    "a string of billions": (b"\x80\x02X\xff\xff\xff\x7fabc.", "damaged or truncated"),
    "bytes beyond memory": (b"\x80\x05\x96" + b"\xff" * 7 + b"\x0fabc.", "damaged or truncated"),
    "a mark in the wrong place": (b"\x80\x02(0.", "damaged or truncated"),
    "protocol 4": (b"\x80\x04}.", "its pickle has protocol 4"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused_before_they_take_memory(tmp_path: Path, case: str) -> None:
    content, problem = HOSTILE[case]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert problem in refused(tmp_path, zip_of_pickle(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert np.dtype("f8").isnative


def test_of_many_refused_names_the_first_are_listed(tmp_path: Path) -> None:
    names = b"".join(b"cos\nname%d\n0" % number for number in range(20_000))
    problem = refused(tmp_path, zip_of_pickle(b"\x80\x02" + names + b"N."))
    assert problem.startswith("its pickle contains more than weights: os.name0, os.name1, ")
    assert problem.endswith(", … (20000 names)")
    assert len(problem) < 400
