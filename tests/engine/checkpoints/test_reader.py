"""Checkpoints are read safely; other files are refused with their kind and a hint."""

import argparse
import builtins
import io
import os
import pickle
import re
import resource
import zipfile
from collections import Counter, OrderedDict, defaultdict
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
from tests.engine.checkpoints.test_manager import raising
from tests.fuzz import ffreid_state, is_equal, legacy_save, original_state, tar_save, zip_save

FORMATS = (zip_save, legacy_save)
Format = Callable[[Any], bytes]


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def refusal(path: Path, **options: bool) -> tuple[str, str]:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    message, hint = caught.value.message, caught.value.hint
    assert "weights_only" not in message + hint
    assert "\n" not in message + hint
    return message, hint


def refused(folder: Path, content: bytes) -> str:
    """Return the problem that is reported for a file of this content."""
    (folder / "a.pth").write_bytes(content)
    message, _ = refusal(folder / "a.pth")
    start = f"cannot read checkpoint {folder / 'a.pth'}: "
    assert message.startswith(start)
    return message.removeprefix(start)


def repacked(content: bytes, change: Callable[[str, bytes], bytes], method: int = 0) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return written.getvalue()


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("make", [ffreid_state, original_state])
def test_both_formats_of_torch_are_read(
    tmp_path: Path, save: Format, make: Callable[[], Any]
) -> None:
    (tmp_path / "a.pth.tar").write_bytes(save(make()))
    assert is_equal(read(tmp_path / "a.pth.tar"), make())


@pytest.mark.parametrize("save", FORMATS)
def test_all_types_in_state_dicts_are_read(tmp_path: Path, save: Format) -> None:
    state = {
        "numpy": [dtype.type(1) for dtype in NUMBERS],
        "parameter": nn.Parameter(torch.ones(2)),
        "halves": [torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float16)],
        "complex": torch.ones(2, dtype=torch.complex64),
        "counter": Counter([1, 1]),
        "set": {"a", "b"},
        "more": (b"\xff", None, True, 10**30, torch.float16, torch.Size([2]), torch.device("cpu")),
        "views": [torch.arange(12.0).reshape(3, 4).t(), torch.ones(1, 3).expand(9, 3)],
        "empty": torch.zeros(0, 4),
    }
    (tmp_path / "a.pth").write_bytes(save(state))
    assert is_equal(read(tmp_path / "a.pth"), state)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float8_e5m2])
def test_dtypes_without_a_storage_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    (tmp_path / "a.pth").write_bytes(zip_save({"a": torch.ones(3).to(dtype)}))
    assert torch.equal(read(tmp_path / "a.pth")["a"].float(), torch.ones(3))


@pytest.mark.parametrize("save", [*FORMATS, pickle.dumps])
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "posix.system"), (os.mkdir, "posix.mkdir"), (exec, "builtins.exec")],
)
def test_code_is_not_run_and_refused_by_name(
    tmp_path: Path, save: Format, call: Callable[..., Any], name: str
) -> None:
    trace = tmp_path / "it ran"
    argument = {"system": f"mkdir '{trace}'", "mkdir": str(trace)}.get(
        call.__name__, f"import os; os.mkdir({str(trace)!r})"
    )
    problem = refused(tmp_path, save({"step": 1, "code": Call(call, argument)}))
    assert problem == f"its pickle contains more than weights: {name}"
    assert not trace.exists()
    if save is not pickle.dumps:
        read(tmp_path / "a.pth", trust=True)
        assert trace.exists()


@pytest.mark.parametrize("save", FORMATS)
def test_every_refused_name_is_listed(tmp_path: Path, save: Format) -> None:
    state = {
        "args": argparse.Namespace(cfg="a.yaml"),
        "log": defaultdict(list),
        "model": nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
        "array": np.ones(3),
        "text": np.str_("abc"),
        "code": [Call(eval, "1"), Call(builtins.exec, "1")],
    }
    problem, _, names = refused(tmp_path, save(state)).rpartition(": ")
    assert problem == "its pickle contains more than weights"
    assert sorted(names.split(", ")) == [
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


def test_the_hint_names_trust_pickle_and_its_danger(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(zip_save({"code": Call(eval, "1")}))
    assert refusal(tmp_path / "a.pth")[1] == (
        "use a file that contains only weights; or, only if you trust its author, type: "
        f"ffreid convert-ckpt {tmp_path / 'a.pth'} --trust-pickle "
        "(a pickle can run any program as you)"
    )


def test_trust_does_not_run_safe_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pth").write_bytes(legacy_save(original_state()))
    monkeypatch.setattr(reader, "_run", None)
    assert is_equal(read(tmp_path / "a.pth", trust=True), original_state())


def test_a_trusted_pickle_that_lacks_a_module_names_it(tmp_path: Path) -> None:
    content = zip_save({"args": argparse.Namespace(x=1)})
    changed = repacked(content, lambda _, data: data.replace(b"argparse", b"argparze"))
    (tmp_path / "a.pth").write_bytes(changed)
    message, hint = refusal(tmp_path / "a.pth", trust=True)
    assert message.endswith("its pickle needs the module argparze")
    assert "PYTHONPATH" in hint


def test_files_of_torchs_tar_format_are_read_only_with_trust(tmp_path: Path) -> None:
    weights = {"weight": torch.arange(6.0).reshape(2, 3)}
    (tmp_path / "old.pth").write_bytes(tar_save(weights))
    message, hint = refusal(tmp_path / "old.pth")
    assert "a tar file of torch before 0.1.10 (2017)" in message
    assert "--trust-pickle (a pickle can run any program as you)" in hint
    assert is_equal(read(tmp_path / "old.pth", trust=True), weights)


DENIED, BROKEN = PermissionError(13, "Permission denied"), OSError(5, "I/O error")
FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")


@pytest.mark.parametrize(
    ("target", "name", "error", "message"),
    [
        (os, "pread", DENIED, "cannot read PATH: Permission denied"),
        (os, "pread", BROKEN, "cannot read PATH: I/O error"),
        (torch, "load", FULL, "not enough memory to read PATH (0.0 GB)"),
    ],
)
def test_system_errors_are_not_reported_as_damage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    error: Any,
    message: str,
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(zip_save({}))
    monkeypatch.setattr(target, name, raising(error))
    assert refusal(path)[0] == message.replace("PATH", str(path))


@pytest.mark.parametrize("limit", [1000, 10**9])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_only_tensors_of_a_large_stored_file_stay_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, method: int
) -> None:
    path, content = tmp_path / "large.pth", zip_save(original_state())
    path.write_bytes(repacked(content, lambda _, data: data, method) if method else content)
    monkeypatch.setattr(reader, "MMAP_BYTES", limit)
    state = read(path)
    assert is_equal(state, original_state())
    is_mapped = limit == 1000 and method == zipfile.ZIP_STORED
    assert (str(path) in Path("/proc/self/maps").read_text()) is is_mapped
    del state
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = repacked(
        zip_save(original_state()),
        lambda name, data: bytes(10**6) if "/data/" in name else data,
        zipfile.ZIP_DEFLATED,
    )
    assert refused(tmp_path, bomb) == "its unpacked size is over 100 times its own"


def test_a_damaged_record_is_detected_by_its_checksum(tmp_path: Path) -> None:
    content = zip_save({"weights": torch.full((99,), 3.0)})
    damaged = content.replace(b"\0\0\x40\x40" * 9, b"\0\0\x40\x40" * 8 + b"\0\0\x40\x41", 1)
    assert len(damaged) == len(content) and damaged != content
    assert refused(tmp_path, damaged) == "wrong checksum of record archive/data/0"
    assert refusal(tmp_path / "a.pth")[1].startswith("copy or download it again")


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("which", [1, 2], ids=["storage", "tensor"])
def test_claimed_sizes_are_checked(tmp_path: Path, save: Format, which: int) -> None:
    def grown(_: str, pickled: bytes) -> bytes:
        parts = pickled.split(b"Kc")  # the size of 99, of the storage and of the tensor
        if len(parts) == 1:
            return pickled
        assert len(parts) == 3
        return b"Kc".join(parts[:which]) + b"J\xff\xff\xff\x7f" + b"Kc".join(parts[which:])

    content = save({"weights": torch.zeros(99)})
    changed = repacked(content, grown) if save is zip_save else grown("", content)
    assert changed != content
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert re.search(
        "damaged|truncated|has the wrong size|torch cannot read", refused(tmp_path, changed)
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_tensor_much_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    content = zip_save({"weights": torch.ones(1).expand(2**40)})
    assert "elements has a storage of only 1" in refused(tmp_path, content)


def test_hooks_of_a_tensor_are_refused(tmp_path: Path) -> None:
    rebuild = torch._utils._rebuild_parameter
    hooked = Call(rebuild, torch.ones(1), True, OrderedDict(hook=3))
    assert "a tensor has hooks" in refused(tmp_path, zip_save({"weights": hooked}))


def a_safetensors_file() -> bytes:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return len(header).to_bytes(8, "little") + header + np.ones(2, np.float32).tobytes()


def test_safetensors_are_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    (tmp_path / "a.pth").write_bytes(a_safetensors_file())
    assert is_equal(read(tmp_path / "a.pth"), {"a": torch.ones(2)})
    assert "damaged safetensors" in refused(tmp_path, a_safetensors_file()[:-1])


def test_safetensors_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    (tmp_path / "a.pth").write_bytes(a_safetensors_file())
    assert refusal(tmp_path / "a.pth")[1] == "run: pip install 'ffreid[safetensors]'"


def test_pickles_are_run_in_one_module_only() -> None:
    sources = {path: path.read_text() for path in Path(ffreid.__file__).parent.rglob("*.py")}
    for pattern in (r"weights_only=False", r"allow_pickle=True", r"pickle\.loads?\(", r"hub\.load"):
        matches = [path.name for path, text in sources.items() if re.search(pattern, text)]
        assert matches == (["reader.py"] if pattern.startswith("weights_only") else []), pattern
    assert [path.name for path, text in sources.items() if "torch.load(" in text] == ["reader.py"]
    unpicklers = [path.name for path, text in sources.items() if "Unpickler" in text]
    assert unpicklers == ["pickles.py"]


def test_the_fuzzers_undamaged_files_are_valid(tmp_path: Path) -> None:
    outcomes = {}
    for name, content in fuzz.sources().items():
        (tmp_path / "a.pth").write_bytes(content)
        outcomes[name] = fuzz.attempt(tmp_path / "a.pth")
    assert [name for name, outcome in outcomes.items() if outcome != "valid"] == ["tar", "npz"]
