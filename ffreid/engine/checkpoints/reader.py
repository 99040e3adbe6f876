"""Reading any file that may be a checkpoint, without running anything in it.

Check sums, names of globals and claimed sizes are checked first; then torch's ``weights_only``
unpickler loads the file, and what it gives is checked once more. Not read without ``trust``: files
whose pickle asks for more than weights, pickles of protocol 4 and later, and tars of torch before
0.1.10.
"""

import errno
import importlib
import io
import itertools
import struct
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ffreid.engine.checkpoints.file_types import (
    SAVED,
    check_folder,
    check_header,
    check_tar_members,
    check_zip_members,
    printable,
    unreadable,
)
from ffreid.engine.checkpoints.pickle_scan import WEIGHTS, PickleScan, scan_pickle
from ffreid.errors import UserError

MMAP_BYTES = 10**9
"""Tensors of files from this size on stay on the disk until they are used."""
MAX_UNPACKED = 100
"""A zip may claim this many times its own size: weights hardly shrink, zip bombs do."""
MAX_EXPANDED = 2**20
"""Elements that a tensor may have although its storage has fewer (`Tensor.expand`)."""
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The two pickled numbers at the start of torch's format before 1.6."""
NUMBERS = ("bool", *(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)))
NUMBERS += ("float16", "float32", "float64", "complex64", "complex128")
"""numpy's numbers that checkpoints may hold."""
REFUSED = "its pickle asks for more than weights"
DANGER = "a pickle can run any program as you"
_SCALARS = (bool, int, float, complex, str, bytes, np.number, np.bool_, type(None))


@dataclass(frozen=True)
class _OpenFile:
    path: Path
    file: BinaryIO
    size: int
    trust: bool

    def error(self, problem: str, hint: str = "") -> UserError:
        return unreadable(self.path, problem, hint) if hint else unreadable(self.path, problem)


def read(path: Path, *, trust: bool = False) -> Any:
    """Read what torch.save (of any version) or safetensors wrote, onto the CPU.

    Args:
        path: the file.
        trust: run the pickle if it asks for more than tensors, numbers, strings and containers;
            for ``convert-ckpt --trust-pickle`` only.

    Raises:
        UserError: the file is missing, damaged or of another type, or its pickle asks for more,
            which is then listed.
    """
    try:
        if path.is_dir():
            check_folder(path)
        if not path.is_file():
            raise UserError(
                f"cannot read checkpoint {path}: no such file",
                "give an existing file, e.g. runs/DATASET/TAG/best.pth",
            )
        with path.open("rb") as file:
            return _read(_OpenFile(path, file, path.stat().st_size, trust))
    except PermissionError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", f"make it readable: chmod u+r {path}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or type(error).__name__}",
            "check the disk, or copy the file to another one",
        ) from error


def _read(source: _OpenFile) -> Any:
    head = source.file.read(4096)
    source.file.seek(0)
    check_header(source.path, head)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(source)
    if head[257:262] == b"ustar":
        return _read_tar(source)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < source.size:
        return _read_safetensors(source.path)
    return _read_stream(source)


def _read_zip(source: _OpenFile) -> Any:
    try:
        with zipfile.ZipFile(source.file) as archive:
            scan = _check_zip(source, archive)
            stored = all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
    except (UserError, PermissionError):
        raise
    except Exception as error:  # zipfile raises errors of many kinds on a damaged file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek to a wrong place
            raise
        raise source.error(f"damaged or truncated ({source.size:,} bytes)") from error
    return _load(source, scan, mmap=stored and source.size >= MMAP_BYTES)


def _check_zip(source: _OpenFile, archive: zipfile.ZipFile) -> PickleScan:
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    check_zip_members(source.path, sizes)
    if sum(sizes.values()) > MAX_UNPACKED * source.size:
        raise source.error(f"its unpacked size would be over {MAX_UNPACKED} times its own")
    if len({name.lower() for name in sizes}) < len(archive.infolist()):
        raise source.error("its zip has two records of the same name")
    damaged = archive.testzip()  # torch does not look at the check sums
    if damaged is not None:
        raise source.error(f"damaged: wrong check sum of its record {printable(damaged)}")
    root = next(iter(sizes)).partition("/")[0]
    scan = scan_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")), WEIGHTS)
    _check_scan(source, scan)
    for key, (elements, item_size) in scan.storages.items():
        if sizes.get(f"{root}/data/{key}") != elements * item_size:
            raise source.error(f"damaged: record data/{printable(key)} is missing or of wrong size")
    return scan


def _read_tar(source: _OpenFile) -> Any:
    try:
        with tarfile.open(fileobj=source.file, mode="r:") as archive:
            names = archive.getnames()
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise source.error("a damaged or truncated tar archive") from error
    check_tar_members(source.path, names)
    if not source.trust:
        raise source.error(
            "a tar of torch before 0.1.10 (2017), which only running its pickles can read",
            _or_trust("use a newer file", source.path),
        )
    return _run(source)


def _read_safetensors(path: Path) -> Any:
    try:
        package = importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise UserError(
            f"cannot read {path}: it needs the package safetensors",
            "type: pip install 'ffreid[safetensors]'",
        ) from error
    try:
        return package.load_file(path)
    except OSError:
        raise
    except Exception as error:  # the package has an error type of its own
        raise unreadable(path, "a damaged safetensors file") from error


def _read_stream(source: _OpenFile) -> Any:
    """Read torch's format before 1.6: pickles one after the other, then the storages."""
    magic = scan_pickle(source.file, set())
    if magic.value != MAGIC:
        if magic.refused:
            raise source.error(f"{REFUSED}: {', '.join(magic.refused)}", SAVED)
        if magic.damage:
            raise source.error("an unknown format, or damaged at its start")
        raise source.error("a pickle, but not one of torch.save", SAVED)
    version, _, scan, keys = (scan_pickle(source.file, WEIGHTS) for _ in range(4))
    _check_scan(source, scan)
    if not _needs_trust(scan):
        if version.value != VERSION or sorted(keys.strings) != sorted(scan.storages):
            raise source.error(f"damaged or truncated ({source.size:,} bytes)")
        for key in keys.strings:
            _skip_storage(source, *scan.storages[key])
    return _load(source, scan, mmap=False)


def _skip_storage(source: _OpenFile, elements: int, item_size: int) -> None:
    count = source.file.read(8)
    end = source.file.tell() + elements * item_size
    if len(count) < 8 or end > source.size:
        raise source.error(f"truncated: {source.size:,} of {end:,} or more bytes")
    if struct.unpack("<q", count)[0] != elements:
        raise source.error("damaged: its sizes contradict each other")
    source.file.seek(end)


def _check_scan(source: _OpenFile, scan: PickleScan) -> None:
    if scan.refused and not source.trust:
        raise source.error(
            f"{REFUSED}: {', '.join(scan.refused)}",
            _or_trust("use a file that holds weights only", source.path),
        )
    if scan.damage and not scan.refused:
        raise source.error(f"its pickle is damaged or truncated ({scan.damage})")
    if scan.protocol > 3 and not source.trust:
        raise source.error(
            f"its pickle has protocol {scan.protocol}, and torch reads 2 without running it",
            _or_trust("save it again without pickle_protocol", source.path),
        )


def _needs_trust(scan: PickleScan) -> bool:
    return bool(scan.refused) or scan.protocol > 3


def _or_trust(instead: str, path: Path) -> str:
    return (
        f"{instead}; or, only if you trust its author, type: ffreid convert-ckpt {path} "
        f"--trust-pickle ({DANGER})"
    )


def _load(source: _OpenFile, scan: PickleScan, *, mmap: bool) -> Any:
    """Have torch load a file that passed the checks; run its pickle only if trusted."""
    if _needs_trust(scan):
        return _run(source)
    source.file.seek(0)
    # torch would take a file named .safetensors for one; mmap needs the name.
    file = str(source.path) if mmap else source.file
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_globals()):
            warnings.simplefilter("ignore")  # of old formats
            content = torch.load(file, map_location="cpu", mmap=mmap, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # torch raises half a dozen types here, and its text advises to switch safety off.
        raise _load_error(source.path, error, "torch cannot read it") from error
    if problem := find_problem(content):
        raise source.error(f"its pickle is damaged: {problem}")
    return content


def find_problem(content: Any, *more: type) -> str:
    """Return what in an unpickled value is neither weights, a number, text nor a type of `more`."""
    queue, seen = [content], set()
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            stored = item.untyped_storage().nbytes() // item.element_size()
            if item.numel() > max(stored, MAX_EXPANDED):
                return f"a tensor repeats its {stored:,} elements {item.numel() // stored:,} times"
            if item._backward_hooks:
                return "a tensor has hooks"
        elif type(item) in (dict, OrderedDict, Counter):
            if type(item) is OrderedDict and vars(item).keys() - {"_metadata"}:
                return "a dict has attributes"
            queue += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            queue += item
        elif not isinstance(item, (*_SCALARS, torch.dtype, torch.device, *more)):
            return f"it holds a {type(item).__name__}"
    return ""


def _run(source: _OpenFile) -> Any:
    """Have torch run a trusted pickle."""
    source.file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(source.file, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise source.error(
            f"its pickle needs the module {error.name}",
            "add the folder of that module: PYTHONPATH=FOLDER ffreid convert-ckpt …",
        ) from error
    except Exception as error:  # whatever the pickle runs into
        raise _load_error(source.path, error, "its pickle fails") from error


def _load_error(path: Path, error: Exception, problem: str) -> UserError:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return UserError(
            f"not enough memory to read {path} ({path.stat().st_size / 1e9:.1f} GB)",
            "close other programs, or use a machine with more memory",
        )
    return unreadable(path, f"{problem} ({type(error).__name__})")


def _numpy_globals() -> list[Any]:
    """What makes a numpy number in a file, under the names it has had."""
    make = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    dtypes = [type(np.dtype(name)) for name in NUMBERS]
    return [np.dtype, *dtypes, *itertools.product([make], names)]
