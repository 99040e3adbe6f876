"""Reading any file that may be a checkpoint: what it is, whether it is whole, and what it holds."""

import errno
import importlib
import io
import itertools
import struct
import tarfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ffreid.engine.foreign import (
    SAVED,
    foreign,
    foreign_folder,
    foreign_tar,
    foreign_zip,
    shown,
    unreadable,
)
from ffreid.engine.pickled import NUMBERS, Storage, Survey, survey
from ffreid.errors import UserError

MAPPED = 10**9
"""From so many bytes on, tensors are read from the disk as they are used."""
UNPACKED = 100
"""A zip may claim so many times its own size; weights hardly shrink, zip bombs do."""
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What torch's stream form, the one before 1.6, begins with: two pickled numbers."""
MORE = "it asks for more than weights"
DANGER = "a pickle can run any program as you"


@dataclass(frozen=True)
class _Opened:
    """A file to read: open, so many bytes long, trusted or not."""

    path: Path
    file: BinaryIO
    size: int
    trust: bool


def read(path: Path, *, trust: bool = False) -> Any:
    """Read what torch.save (of any age) or safetensors wrote, onto the CPU.

    Nothing in it is executed: tensors, numbers, texts, dicts, lists and numpy's numbers are read.
    Tensors of a file of `MAPPED` bytes and more stay on the disk until they are used.

    Args:
        path: the file.
        trust: where it holds more than these, let its pickle run; for
            ``convert-ckpt --trust-pickle`` alone.

    Raises:
        UserError: the file is missing, damaged or something else, or it holds more than these,
            which is then listed.
    """
    try:
        if path.is_dir():
            raise foreign_folder(path)
        if not path.is_file():
            raise UserError(
                f"no checkpoint {path}", "give an existing file, e.g. runs/DATASET/TAG/best.pth"
            )
        with path.open("rb") as file:
            return _read(_Opened(path, file, path.stat().st_size, trust))
    except PermissionError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", f"make it readable: chmod u+r {path}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or type(error).__name__}",
            "see to the disk, or copy the file to another",
        ) from error


def _read(opened: _Opened) -> Any:
    head = opened.file.read(4096)
    opened.file.seek(0)
    if other := foreign(opened.path, head):
        raise other
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(opened)
    if head[257:262] == b"ustar":
        return _read_tar(opened)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < opened.size:
        return _read_safetensors(opened.path)
    return _read_stream(opened)


def _read_zip(opened: _Opened) -> Any:
    try:
        with zipfile.ZipFile(opened.file) as archive:
            found = _look_into(opened, archive)
            stored = all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
    except (UserError, PermissionError):
        raise
    except Exception as error:  # zipfile raises errors of many kinds on a damaged file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a wrong place gives
            raise
        raise unreadable(
            opened.path, f"it is damaged or cut short after {opened.size:,} bytes"
        ) from error
    if _needs_trust(found):
        return _run(opened)
    return _load(opened, mapped=stored and opened.size >= MAPPED)


def _look_into(opened: _Opened, archive: zipfile.ZipFile) -> Survey:
    path = opened.path
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    if other := foreign_zip(path, sizes):
        raise other
    if sum(sizes.values()) > UNPACKED * opened.size:
        raise unreadable(path, f"unpacked it would be over {UNPACKED} times as large")
    if len({name.lower() for name in sizes}) < len(archive.infolist()):
        raise unreadable(path, "its zip has two records of one name")
    damaged = archive.testzip()  # torch does not look at the check sums
    if damaged is not None:
        raise unreadable(path, f"it is damaged in its record {shown(damaged)}")
    root = next(iter(sizes)).partition("/")[0]
    found = survey(io.BytesIO(archive.read(f"{root}/data.pkl")))
    _check(opened, found)
    for key, storage in found.storages.items():
        if sizes.get(f"{root}/data/{key}") != storage.elements * storage.width:
            raise unreadable(path, f"its record data/{shown(key)} is missing or of wrong size")
    return found


def _read_tar(opened: _Opened) -> Any:
    try:
        with tarfile.open(fileobj=opened.file, mode="r:") as archive:
            names = archive.getnames()
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise unreadable(opened.path, "it is a tar, cut short or damaged") from error
    if other := foreign_tar(opened.path, names):
        raise other
    if not opened.trust:
        raise unreadable(
            opened.path,
            "it is a tar of torch before 0.1.10 (2017), which is read only by running its pickles",
            _trusting("look for a newer file", opened.path),
        )
    return _run(opened)


def _read_safetensors(path: Path) -> Any:
    try:
        package = importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise UserError(
            f"{path} is a safetensors file, which needs the package safetensors",
            "type: pip install 'ffreid[safetensors]'",
        ) from error
    try:
        return package.load_file(path)
    except OSError:
        raise
    except Exception as error:  # the package has an error type of its own
        raise unreadable(path, "it is a damaged safetensors file") from error


def _read_stream(opened: _Opened) -> Any:
    path, magic = opened.path, survey(opened.file)
    if magic.refused:
        raise unreadable(path, f"{MORE}: {', '.join(magic.refused)}", SAVED)
    if magic.value != MAGIC:
        if magic.damage:
            raise unreadable(path, "it is of no known form, or damaged at its start")
        raise unreadable(path, "it is a pickle, but not of torch.save", SAVED)
    version, _, found, keys = (survey(opened.file) for _ in range(4))
    _check(opened, found)
    if _needs_trust(found):
        return _run(opened)
    if version.value != VERSION or not _same(keys.value, found.storages):
        raise unreadable(path, f"it is damaged or cut short after {opened.size:,} bytes")
    for key in keys.value:
        _skip(opened, found.storages[key])
    return _load(opened, mapped=False)


def _same(keys: Any, storages: dict[str, Storage]) -> bool:
    """Whether `keys` lists every storage, once."""
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return named and sorted(keys) == sorted(storages)


def _skip(opened: _Opened, storage: Storage) -> None:
    """Pass over the numbers of a storage in a stream, which follow their count."""
    count = opened.file.read(8)
    end = opened.file.tell() + storage.elements * storage.width
    if len(count) < 8 or end > opened.size:
        raise unreadable(
            opened.path, f"it is cut short: {opened.size:,} bytes of {end:,} or more are there"
        )
    if struct.unpack("<q", count)[0] != storage.elements:
        raise unreadable(opened.path, "it is damaged: its sizes contradict each other")
    opened.file.seek(end)


def _check(opened: _Opened, found: Survey) -> None:
    """Refuse a pickle that is damaged or, unless trusted, asks for more than weights."""
    if found.refused and not opened.trust:
        raise _more_than_weights(opened.path, found)
    if found.damage and not found.refused:
        raise unreadable(opened.path, f"its pickle is damaged or cut short ({found.damage})")
    if found.protocol > 3 and not opened.trust:
        raise unreadable(
            opened.path,
            f"it is pickled with protocol {found.protocol}, and torch reads 2 without running it",
            _trusting("write it anew by torch.save without pickle_protocol", opened.path),
        )


def _needs_trust(found: Survey) -> bool:
    return bool(found.refused) or found.protocol > 3


def _more_than_weights(path: Path, found: Survey) -> UserError:
    return unreadable(
        path,
        f"{MORE}: {', '.join(found.refused)}",
        _trusting("give a file of weights alone", path),
    )


def _trusting(instead: str, path: Path) -> str:
    return (
        f"{instead}; or, only if you trust its maker, type: ffreid convert-ckpt {path} "
        f"--trust-pickle ({DANGER})"
    )


def _load(opened: _Opened, *, mapped: bool) -> Any:
    """Have torch load what has been found sound, without running any of it."""
    opened.file.seek(0)
    # By its name torch would take a file for one of safetensors; the map needs the name.
    source = str(opened.path) if mapped else opened.file
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numbers()):
            warnings.simplefilter("ignore")  # of old forms, and of torch's own doings
            return torch.load(source, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # torch raises half a dozen types here, and its text advises to switch safety off.
        raise _failed(opened.path, error, "torch cannot read it") from error


def _run(opened: _Opened) -> Any:
    """Have torch run the pickle, which is trusted."""
    opened.file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(opened.file, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise unreadable(
            opened.path,
            f"its pickle needs the module {error.name}",
            "go where that module lies: PYTHONPATH=FOLDER ffreid convert-ckpt …",
        ) from error
    except Exception as error:  # whatever the pickle runs into
        raise _failed(opened.path, error, "its pickle fails") from error


def _failed(path: Path, error: Exception, what: str) -> UserError:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return UserError(
            f"not enough memory to read {path} ({path.stat().st_size / 1e9:.1f} GB)",
            "end other programs, or read it on a larger machine",
        )
    return unreadable(path, f"{what} ({type(error).__name__})")


def _numbers() -> list[Any]:
    """What a numpy number in a file is made by, under the names it has had."""
    make = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    dtypes = [type(np.dtype(name)) for name in NUMBERS]
    return [np.dtype, *dtypes, *itertools.product([make], names)]
