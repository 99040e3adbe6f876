"""Any file that may be a checkpoint is read safely, or refused with what it is and what to do."""

import argparse
import builtins
import io
import os
import pickle
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ffreid
from ffreid.engine.checkpoints import reader
from ffreid.engine.checkpoints.reader import NUMBERS, read
from ffreid.errors import UserError
from tests import fuzz
from tests.fuzz import ours, same, streamed, tarred, theirs, zipped

CONTAINERS = (zipped, streamed)
Container = Callable[[Any], bytes]


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.made = call, arguments

    def __reduce__(self) -> Any:
        return self.made


def refusal(path: Path, **options: bool) -> tuple[str, str]:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    told = caught.value.message, caught.value.hint
    assert "weights_only" not in "".join(told)
    assert "\n" not in "".join(told)
    return told


def repacked(content: bytes, change: Callable[[str, bytes], bytes], method: int = 0) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return written.getvalue()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("make", [ours, theirs])
def test_both_containers_of_torch_are_read(
    tmp_path: Path, container: Container, make: Callable[[], Any]
) -> None:
    (tmp_path / "a.pth.tar").write_bytes(container(make()))
    assert same(read(tmp_path / "a.pth.tar"), make())


@pytest.mark.parametrize("container", CONTAINERS)
def test_all_that_state_dicts_hold_is_read(tmp_path: Path, container: Container) -> None:
    held = {
        "numpy": [np.dtype(name).type(1) for name in NUMBERS],
        "parameter": nn.Parameter(torch.ones(2)),
        "halves": [torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float16)],
        "complex": torch.ones(2, dtype=torch.complex64),
        "counter": Counter([1, 1]),
        "words": {"a", "b"},
        "more": (b"\xff", None, True, 10**30, torch.float16, torch.Size([2]), torch.device("cpu")),
        "views": [torch.arange(12.0).reshape(3, 4).t(), torch.ones(1, 3).expand(9, 3)],
        "nothing": torch.zeros(0, 4),
    }
    (tmp_path / "a.pth").write_bytes(container(held))
    assert same(read(tmp_path / "a.pth"), held)


@pytest.mark.parametrize("container", [*CONTAINERS, pickle.dumps])
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "posix.system"), (os.mkdir, "posix.mkdir"), (exec, "builtins.exec")],
)
def test_code_does_not_run_and_is_named(
    tmp_path: Path, container: Container, call: Callable[..., Any], name: str
) -> None:
    trace = tmp_path / "it ran"
    argument = {"system": f"mkdir '{trace}'", "mkdir": str(trace)}.get(
        call.__name__, f"import os; os.mkdir({str(trace)!r})"
    )
    content = container({"step": 1, "code": Runs(call, argument)})
    (tmp_path / "bad.pth").write_bytes(content)
    message, _ = refusal(tmp_path / "bad.pth")
    assert message.endswith(
        f"bad.pth is no readable checkpoint: it asks for more than weights: {name}"
    )
    assert not trace.exists()


def test_what_is_refused_would_run_if_it_were_trusted(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    (tmp_path / "bad.pth").write_bytes(zipped({"code": Runs(os.mkdir, str(trace))}))
    read(tmp_path / "bad.pth", trust=True)
    assert trace.exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_name_is_listed(tmp_path: Path, container: Container) -> None:
    held = {
        "args": argparse.Namespace(cfg="a.yaml"),
        "log": defaultdict(list),
        "model": nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        "array": np.ones(3),
        "text": np.str_("abc"),
        "code": [Runs(eval, "1"), Runs(builtins.exec, "1")],
    }
    (tmp_path / "a.pth").write_bytes(container(held))
    listed = refusal(tmp_path / "a.pth")[0].rpartition(": ")[2].split(", ")
    assert sorted(listed) == sorted(
        [
            "argparse.Namespace",
            "builtins.eval",
            "builtins.exec",
            "builtins.list",
            "collections.defaultdict",
            "numpy._core.multiarray._reconstruct",
            "numpy.dtype('U3')",
            "numpy.ndarray",
            "torch.nn.modules.activation.ReLU",
            "torch.nn.modules.container.Sequential",
            "torch.nn.modules.linear.Linear",
        ]
    )


def test_names_of_the_newest_pickles_are_listed(tmp_path: Path) -> None:
    written = io.BytesIO()
    torch.save({"code": Runs(eval, "1")}, written, pickle_protocol=4)
    (tmp_path / "a.pth").write_bytes(written.getvalue())
    assert refusal(tmp_path / "a.pth")[0].endswith("more than weights: builtins.eval")


def test_a_name_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"c\x1b[31m\nname\n.")
    assert refusal(tmp_path / "a.pth")[0].endswith(r": \x1b[31m.name")


def test_the_way_round_is_told_with_its_danger(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(zipped({"code": Runs(eval, "1")}))
    assert refusal(tmp_path / "a.pth")[1] == (
        "give a file of weights alone; or, only if you trust its maker, type: "
        f"ffreid convert-ckpt {tmp_path / 'a.pth'} --trust-pickle "
        "(a pickle can run any program as you)"
    )


def test_trust_runs_nothing_where_nothing_need_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pth").write_bytes(streamed(theirs()))
    monkeypatch.setattr(reader, "_run", None)
    assert same(read(tmp_path / "a.pth", trust=True), theirs())


def test_a_trusted_pickle_that_lacks_a_module_says_which(tmp_path: Path) -> None:
    content = zipped({"args": argparse.Namespace(x=1)})
    changed = repacked(content, lambda _, inside: inside.replace(b"argparse", b"argparze"))
    (tmp_path / "a.pth").write_bytes(changed)
    message, hint = refusal(tmp_path / "a.pth", trust=True)
    assert message.endswith("its pickle needs the module argparze")
    assert "PYTHONPATH" in hint


def test_files_of_the_tar_era_are_read_only_with_trust(tmp_path: Path) -> None:
    weights = {"weight": torch.arange(6.0).reshape(2, 3)}
    (tmp_path / "old.pth").write_bytes(tarred(weights))
    message, hint = refusal(tmp_path / "old.pth")
    assert "a tar of torch before 0.1.10 (2017)" in message
    assert "--trust-pickle (a pickle can run any program as you)" in hint
    assert same(read(tmp_path / "old.pth", trust=True), weights)


def a_zip(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        for name in names:
            file.writestr(name, b"...")
    return written.getvalue()


def a_tar() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:") as file:
        file.addfile(tarfile.TarInfo("best.pth"))
    return written.getvalue()


PROGRAM = ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py")
FOREIGN = {
    "empty": (b"", "it is empty", "download it again"),
    "page": (b"\n <!doctype HTML><html>Sign in", "a web page", "in a browser"),
    "refusal": (b"<?xml version='1.0'?><Error>", "a web page", "in a browser"),
    "drive": (b"<!DOCTYPE html><title>Google Drive - Virus", "Google Drive's page", "in a browser"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs", "git lfs pull"),
    "zeros": (bytes(2000), "never written whole", "copy"),
    "gzip": (b"\x1f\x8b\x08 and so on", "compressed archive", "unpack it first"),
    "tar": (a_tar(), "a tar archive", "unpack it"),
    "pictures": (a_zip("a/1.png", "a/2.png"), "a zip of a/1.png, a/2.png", "checkpoint itself"),
    "arrays": (a_zip("a.npy"), r"numpy's arrays (.npz)", "torch.save"),
    "array": (b"\x93NUMPY\x01", "numpy (.npy)", "torch.save"),
    "program": (a_zip(*PROGRAM), "a TorchScript program (constants.pkl, code/)", "state_dict()"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5", "torch.save"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle, but not of torch.save", "torch.save"),
    "text": (b"weights, they said\n" * 9, "no known form", "another file"),
    "cut zip": (zipped(ours())[:-300], "damaged or cut short after", "copy"),
    "cut stream": (streamed(ours())[:-30], "cut short: ", "copy"),
    "cut pickle": (streamed(ours())[:300], "damaged or cut short", "copy"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_none_is_told_apart(tmp_path: Path, kind: str) -> None:
    content, what, hint = FOREIGN[kind]
    (tmp_path / "a.pth").write_bytes(content)
    message, told = refusal(tmp_path / "a.pth")
    assert message.startswith(f"{tmp_path / 'a.pth'} is no readable checkpoint: ")
    assert what in message
    assert hint in told


def test_a_folder_tells_what_lies_in_it(tmp_path: Path) -> None:
    for name in ("last.pth", "best.pth", "log.txt"):
        (tmp_path / name).touch()
    assert refusal(tmp_path) == (
        f"no checkpoint {tmp_path}: it is a folder",
        "give a file: best.pth, last.pth",
    )


def test_an_unpacked_checkpoint_tells_how_to_pack_it(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "data.pkl").touch()
    message, hint = refusal(tmp_path / "best")
    assert message.endswith("it is a folder, an unpacked checkpoint")
    assert hint == f"pack it: cd {tmp_path} && zip -0 -r best.pth best"


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_a_file_that_cannot_be_read_is_no_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    (tmp_path / "a.pth").write_bytes(zipped({}))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", refuse)
    assert refusal(tmp_path / "a.pth")[0] == f"cannot read {tmp_path / 'a.pth'}: {error.strerror}"


def test_a_file_larger_than_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")

    (tmp_path / "a.pth").write_bytes(streamed({}))
    monkeypatch.setattr(torch, "load", fail)
    assert refusal(tmp_path / "a.pth")[0].startswith("not enough memory to read ")


def test_tensors_of_a_large_file_stay_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.pth"
    path.write_bytes(zipped(theirs()))
    monkeypatch.setattr(reader, "MAPPED", 1000)
    state = read(path)
    assert same(state, theirs())
    assert str(path) in Path("/proc/self/maps").read_text()
    del state
    assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("limit", [1000, 10**9])
def test_a_zip_that_was_packed_anew_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(reader, "MAPPED", limit)
    packed = repacked(zipped(theirs()), lambda _, inside: inside, zipfile.ZIP_DEFLATED)
    (tmp_path / "a.pth").write_bytes(packed)
    assert same(read(tmp_path / "a.pth"), theirs())


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = repacked(
        zipped(theirs()),
        lambda name, inside: bytes(10**6) if "/data/" in name else inside,
        zipfile.ZIP_DEFLATED,
    )
    (tmp_path / "a.pth").write_bytes(bomb)
    assert "unpacked it would be over 100 times as large" in refusal(tmp_path / "a.pth")[0]


def test_types_that_have_no_storage_of_their_own_are_read(tmp_path: Path) -> None:
    held = {"a": torch.ones(3, dtype=torch.uint16), "b": torch.ones(3).to(torch.float8_e5m2)}
    (tmp_path / "a.pth").write_bytes(zipped(held))
    assert torch.equal(read(tmp_path / "a.pth")["a"], held["a"])
    assert torch.equal(read(tmp_path / "a.pth")["b"].float(), torch.ones(3))


def test_a_damaged_record_is_found_by_its_check_sum(tmp_path: Path) -> None:
    content = zipped({"weights": torch.full((99,), 3.0)})
    damaged = content.replace(b"\0\0\x40\x40" * 9, b"\0\0\x40\x40" * 8 + b"\0\0\x40\x41", 1)
    assert len(damaged) == len(content) and damaged != content
    (tmp_path / "a.pth").write_bytes(damaged)
    assert refusal(tmp_path / "a.pth")[0].endswith("it is damaged in its record archive/data/0")


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("which", [1, 2], ids=["storage", "tensor"])
def test_sizes_are_not_believed(tmp_path: Path, container: Container, which: int) -> None:
    def grown(_: str, pickled: bytes) -> bytes:
        parts = pickled.split(b"Kc")  # the size of 99, of the storage and of the tensor
        if len(parts) == 1:
            return pickled
        assert len(parts) == 3
        return b"Kc".join(parts[:which]) + b"J\xff\xff\xff\x7f" + b"Kc".join(parts[which:])

    content = container({"weights": torch.zeros(99)})
    changed = repacked(content, grown) if container is zipped else grown("", content)
    assert changed != content
    (tmp_path / "a.pth").write_bytes(changed)
    assert re.search("damaged|cut short|of wrong size", refusal(tmp_path / "a.pth")[0])


def test_a_tensor_that_repeats_its_numbers_too_often_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(zipped({"weights": torch.ones(1).expand(2**40)}))
    assert "its pickle is damaged" in refusal(tmp_path / "a.pth")[0]


def a_safetensors_file() -> bytes:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return len(header).to_bytes(8, "little") + header + np.ones(2, np.float32).tobytes()


def test_safetensors_are_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    (tmp_path / "a.pth").write_bytes(a_safetensors_file())
    assert same(read(tmp_path / "a.pth"), {"a": torch.ones(2)})
    (tmp_path / "b.pth").write_bytes(a_safetensors_file()[:-1])
    assert "damaged safetensors" in refusal(tmp_path / "b.pth")[0]


def test_safetensors_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    (tmp_path / "a.pth").write_bytes(a_safetensors_file())
    assert refusal(tmp_path / "a.pth")[1] == "type: pip install 'ffreid[safetensors]'"


def test_pickles_are_run_in_one_place_alone() -> None:
    sources = {path: path.read_text() for path in Path(ffreid.__file__).parent.rglob("*.py")}
    for word in (r"weights_only=False", r"allow_pickle=True", r"pickle\.loads?\(", r"hub\.load"):
        found = [path.name for path, text in sources.items() if re.search(word, text)]
        assert found == (["unpacking.py"] if word.startswith("weights_only") else []), word
    loads = [path.name for path, text in sources.items() if "torch.load(" in text]
    assert loads == ["unpacking.py"]


def test_the_fuzzers_files_are_sound(tmp_path: Path) -> None:
    outcomes = {}
    for name, content in fuzz.sources().items():
        (tmp_path / "a.pth").write_bytes(content)
        outcomes[name] = fuzz.attempt(tmp_path / "a.pth")
    assert [name for name, outcome in outcomes.items() if outcome != "sound"] == ["tar", "npz"]
