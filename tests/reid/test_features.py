"""Feature files: saving, loading, and errors in invalid files."""

import io
import os
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffreid.errors import UserError
from ffreid.reid.features import load, save
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, STANDARD, between, on_identities
from tests.reid.synthetic_features import synthetic_features

PROTOCOLS = (*STANDARD, between("two", (1,), (0, 2)), on_identities(CLOTHES_CHANGING, "some", (1,)))
ABOUT: dict[str, Any] = {
    "broken": {"query/a.png": "is damaged"},
    "skipped": (1, 0),
    "own_images": {"query/0.png": "gallery/1.png"},
    "trained_on": "prcc",
    "names": {"identity": {0: "Zoë"}},
}


def saved(path: Path, **changes: Any) -> Path:
    """A feature file with some arrays replaced, or removed by None."""
    save(path, synthetic_features())
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files} | changes
    with path.open("wb") as out:
        np.savez(out, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_features_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    extracted = synthetic_features(
        columns=("camera",), protocols=PROTOCOLS, single_shot=((0, 7), (1,)), **ABOUT
    )
    save(tmp_path / "features.npz", extracted)
    result = load(tmp_path / "features.npz", "ltcc")
    for name in ("dataset", "network", "weights", "columns", "protocols", "single_shot", *ABOUT):
        assert getattr(result, name) == getattr(extracted, name)
    for ours, expected in ((result.query, extracted.query), (result.gallery, extracted.gallery)):
        assert torch.equal(ours.features, expected.features)
        assert ours.paths == expected.paths
        torch.testing.assert_close(ours.labels, dict(expected.labels))


def test_files_of_before_lack_what_they_did_not_store(tmp_path: Path) -> None:
    result = load(saved(tmp_path / "f.npz", about=None), "ltcc")
    assert [getattr(result, name) for name in ABOUT] == [{}, (0, 0), {}, "", {}]


def test_the_file_has_the_documented_arrays_and_no_pickles(tmp_path: Path) -> None:
    extracted = synthetic_features()
    save(tmp_path / "features.npz", extracted)
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        for side in ("query", "gallery"):
            count = len(getattr(extracted, side))
            assert file[f"{side}_features"].shape == (count, 8)
            for column in ("identity", "camera", "clothes", "path"):
                assert file[f"{side}_{column}"].shape == (count,)
        assert str(file["dataset"]) == "ltcc"


def test_the_file_is_flushed_to_disk_under_exactly_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size))
    save(tmp_path / "new/features.bin", synthetic_features())
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "features.bin"
    assert flushed[0] == path.stat().st_size


def test_features_of_other_lengths_are_scaled(tmp_path: Path) -> None:
    extracted = synthetic_features()
    path = saved(tmp_path / "f.npz", query_features=7 * extracted.query.features.numpy())
    torch.testing.assert_close(load(path, "ltcc").query.features, extracted.query.features)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"query_identity": None, "protocols": None}, "lacks protocols, query_identity"),
        ({"version": np.array(99)}, "version 99"),
        ({"dataset": np.array("prcc")}, "features of prcc, not of ltcc"),
        ({"gallery_camera": np.zeros(3, int)}, r"gallery_camera is int64 of shape \(3,\), for 24"),
        ({"query_features": np.full((8, 8), np.nan, np.float32)}, "8 of 8 query features are NaN"),
        ({"query_features": np.zeros((8, 8), np.float32)}, "8 of 8 query features are all zero"),
        ({"query_features": np.ones((8, 5), np.float32)}, "lengths 5 and 8"),
        ({"query_features": np.ones(8, np.float32)}, r"shape \(8,\), expected"),
        ({"query_features": np.ones((8, 8), int)}, "expected \\(N, D\\) floats"),
        ({"query_clothes": np.ones(8)}, "query_clothes is float64"),
        ({"protocols": np.array("[{}]")}, "cannot read protocols, single_shot or about"),
        ({"single_shot": np.array("[[99]]")}, "indices beyond the gallery"),
        ({"columns": np.array(["hat"])}, "unknown columns hat"),
        ({"query_path": np.array([{}] * 8)}, "was not written by --save-features"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_invalid_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], error: str) -> None:
    path = saved(tmp_path / "f.npz", **changes)
    with pytest.raises(UserError, match=error):
        load(path, "ltcc")


def a_cut_header() -> bytes:
    """Of which numpy raises an error that is none of its usual ones."""
    array, written = io.BytesIO(), io.BytesIO()
    np.save(array, np.ones(3))
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("a.npy", array.getvalue().replace(b"}", b" "))
    return written.getvalue()


def one_array() -> bytes:
    written = io.BytesIO()
    np.save(written, np.ones(3))
    return written.getvalue()


def zeros() -> bytes:
    """A file of half a megabyte, of half a gigabyte unpacked."""
    written = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**27, 1)}
    with (
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("query_features.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(512):
            file.write(bytes(2**20))
    return written.getvalue()


@pytest.mark.parametrize("name", ["protocols", "single_shot", "about"])
@pytest.mark.parametrize("text", ["[" * 10**5, "[[Infinity]]", "9" * 5000, "[" + "9" * 5000 + "]"])
def test_hostile_texts_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = saved(tmp_path / "f.npz", **{name: np.array(text)})
    with pytest.raises(UserError, match="cannot read protocols, single_shot or about"):
        load(path, "ltcc")


def test_a_file_with_a_huge_unpacked_size_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "f.npz").write_bytes(zeros())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="was not written by --save-features"):
        load(tmp_path / "f.npz", "ltcc")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut short", b"text", a_cut_header(), one_array(), None]
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = saved(tmp_path / "f.npz")
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(UserError, match="was not written by --save-features"):
        load(path, "ltcc")
    path.unlink()
    with pytest.raises(UserError, match="no file"):
        load(path, "ltcc")
