"""Files that are mistaken for checkpoints are recognised, with what to do."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.engine.checkpoints.test_reader import refusal, refused
from tests.fuzz import ffreid_state, legacy_save, zip_save


def a_zip(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        for name in names:
            file.writestr(name, b"...")
    return written.getvalue()


TAR = tarfile.TarInfo("best.pth").tobuf() + bytes(1024)
PROGRAM = ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py")
OTHER_FILES = {
    "empty": (b"", "is empty", "download it again"),
    "page": (b"\n <!doctype HTML><html>Sign in", "a web page", "in a browser"),
    "xml": (b"<?xml version='1.0'?><Error>", "a web page", "in a browser"),
    "drive": (b"<!DOCTYPE html><title>Google Drive - Virus", "Google Drive's", "in a browser"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs", "git lfs pull"),
    "zeros": (bytes(2000), "not written completely", "copy"),
    "gzip": (b"\x1f\x8b\x08 and so on", "compressed archive", "unpack it"),
    "tar": (TAR, "a tar archive", "unpack it"),
    "images": (a_zip("a/1.png", "a/2.png"), "a zip of a/1.png, a/2.png", "checkpoint itself"),
    "arrays": (a_zip("a.npy"), r"numpy arrays (.npz)", "torch.save"),
    "array": (b"\x93NUMPY\x01", "numpy array (.npy)", "torch.save"),
    "program": (a_zip(*PROGRAM), "a TorchScript program (constants.pkl, code/)", "state_dict()"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5", "torch.save"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle that was not written by torch.save", "torch.save"),
    "text": (b"weights, they said\n" * 9, "unknown format", "another file"),
    "cut zip": (zip_save(ffreid_state())[:-300], "damaged or truncated (", "copy"),
    "cut stream": (legacy_save(ffreid_state())[:-30], "truncated: ", "copy"),
    "cut pickle": (legacy_save(ffreid_state())[:300], "damaged or truncated", "copy"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_recognised(tmp_path: Path, kind: str) -> None:
    content, what, hint = OTHER_FILES[kind]
    assert what in refused(tmp_path, content)
    assert hint in refusal(tmp_path / "a.pth")[1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    message, hint = refusal(tmp_path / "none.pth")
    assert message == f"cannot read checkpoint {tmp_path / 'none.pth'}: no such file"
    assert "runs/DATASET/TAG/best.pth" in hint


def test_a_folder_lists_its_checkpoints_or_how_to_pack_it(tmp_path: Path) -> None:
    for name in ("last.pth", "best.pth", "log.txt"):
        (tmp_path / name).touch()
    message = f"cannot read checkpoint {tmp_path}: it is a folder"
    assert refusal(tmp_path) == (message, "use a file: best.pth, last.pth")
    (tmp_path / "data.pkl").touch()
    assert refusal(tmp_path) == (
        f"{message}, an unpacked checkpoint",
        f"pack it: cd {tmp_path.parent} && zip -0 -r {tmp_path.name}.pth {tmp_path.name}",
    )
