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
import os
import re
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ffreid.engine.checkpoints.file_types import (
    FORMATS,
    SAVED,
    UNPACK,
    check_zip_members,
    folder_error,
    unreadable,
)
from ffreid.engine.checkpoints.pickle_scan import WEIGHTS, PickleScan, scan_pickle
from ffreid.errors import UserError
from ffreid.files import regular

MMAP_BYTES = 10**6 if sys.platform != "win32" else 10**9
"""Tensors of files from this size on stay on the disk until they are used.

Windows cannot replace a file while it is mapped.
"""
MAX_UNPACKED = 100
"""A zip may claim this many times its own size: weights hardly shrink, zip bombs do."""
MAX_EXPANDED = 2**20
"""Elements that a tensor may have although its storage has fewer (`Tensor.expand`)."""
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The two pickled numbers at the start of torch's format before 1.6."""
NUMBERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
NUMBERS += [*map(np.dtype, ("?", "f2", "f4", "f8", "c8", "c16"))]
"""numpy's numbers, which checkpoints may hold."""
_LOCAL = struct.Struct("<4s22xHH")
"""The head of a record in a zip, which ends with the lengths of its name and of what follows it."""
_SUM_THREADS, _CHUNK = 4, 1 << 22
SCALARS = (bool, int, float, complex, str, bytes, np.number, np.bool_, type(None))
REFUSED = "its pickle contains more than weights"
TRUST = (
    "{}; or, only if you trust its author, type: ffreid convert-ckpt {} --trust-pickle "
    "(a pickle can run any program as you)"
)


def read(path: Path, *, trust: bool = False) -> Any:
    """Read what torch.save (of any version) or safetensors wrote, onto the CPU.

    With `trust`, for ``convert-ckpt --trust-pickle`` only, a pickle is run if it asks for more than
    tensors, numbers, strings and containers.

    Raises:
        UserError: the file is missing, damaged or of another type, or its pickle asks for more,
            which is then listed.
    """
    try:
        if path.is_dir():
            raise folder_error(path)
        with regular(path).open("rb") as file:
            return _read(path, file, trust)
    except FileNotFoundError as error:
        hint = "use an existing file, e.g. runs/DATASET/TAG/best.pth"
        raise unreadable(path, "no such file", hint) from error
    except OSError as error:
        hint = "check the disk, or copy the file to another one"
        if isinstance(error, PermissionError):
            hint = f"make it readable: chmod u+r {path}"
        problem = error.strerror or type(error).__name__
        raise UserError(f"cannot read {path}: {problem}", hint) from error


def _read(path: Path, file: BinaryIO, trust: bool) -> Any:
    head = file.read(4096)
    file.seek(0)
    for first, what, hint in FORMATS:
        if re.match(first, head, re.IGNORECASE | re.DOTALL):
            raise unreadable(path, what, hint)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        package = import_safetensors(str(path))
        try:
            return package.load_file(path)
        except OSError:
            raise
        except Exception as error:  # the package has an error type of its own
            raise unreadable(path, "a damaged safetensors file") from error
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path, file, trust)
    if head[257:262] != b"ustar":
        needs_trust = _check_stream(path, file, trust)
    else:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                names = archive.getnames()
        except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
            raise unreadable(path, "a damaged or truncated tar archive") from error
        if not {"storages", "tensors", "pickle"}.issubset(names):
            raise unreadable(path, "a tar archive", UNPACK)
        if not trust:
            what = (
                "a tar file of torch before 0.1.10 (2017), readable only by executing its pickles"
            )
            raise unreadable(path, what, TRUST.format("use a newer file", path))
        needs_trust = True
    file.seek(0)
    return _run(path, file) if needs_trust and trust else _load(path, file)


def _read_zip(path: Path, file: BinaryIO, trust: bool) -> Any:
    """Read a zip; other threads compare check sums, which torch ignores, in the meantime."""
    sums: Future[str | None] | None = None
    try:
        with zipfile.ZipFile(file) as archive, ThreadPoolExecutor(1) as pool:
            items = archive.infolist()
            sizes = {item.filename: item.file_size for item in items}
            _check_sizes(path, sizes, len(items))
            sums = pool.submit(_first_damaged, file, archive)
            root = next(iter(sizes)).partition("/")[0]
            scan = scan_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")), WEIGHTS)
            if scan.damage or scan.refused:  # of a damaged file the check sum says more
                _check_sums(path, sums)
            needs_trust = _check_scan(path, scan, trust)
            for key, (elements, item_size) in scan.storages.items():
                if sizes.get(f"{root}/data/{key}") != elements * item_size:
                    raise unreadable(path, f"record data/{key} is missing or has the wrong size")
            stored = all(item.compress_type == zipfile.ZIP_STORED for item in items)
            large = path.stat().st_size >= MMAP_BYTES
            if (needs_trust and trust) or not (stored and large):
                _check_sums(path, sums)
                file.seek(0)
                return _run(path, file) if needs_trust and trust else _load(path, file)
            content = _load(path, file, mapped=True)
            _check_sums(path, sums)
            return content
    except (UserError, PermissionError):
        if sums is not None:
            _check_sums(path, sums)
        raise
    except Exception as error:  # zipfile raises errors of many kinds on a damaged file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek to a wrong place
            raise
        size = path.stat().st_size
        raise unreadable(path, f"damaged or truncated ({size:,} bytes)") from error


def _check_sizes(path: Path, sizes: Mapping[str, int], count: int) -> None:
    """Raise if a zip's records, by name, are not a checkpoint's, or claim too much."""
    check_zip_members(path, sizes)
    if sum(sizes.values()) > MAX_UNPACKED * path.stat().st_size:
        raise unreadable(path, f"its unpacked size is over {MAX_UNPACKED} times its own")
    if len({name.lower() for name in sizes}) < count:
        raise unreadable(path, "its zip has two records of the same name")


def _first_damaged(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    """The first record whose check sum is wrong, or None."""
    items = archive.infolist()
    if not hasattr(os, "pread") or any(i.compress_type != zipfile.ZIP_STORED for i in items):
        return archive.testzip()
    number = file.fileno()

    def is_sound(item: zipfile.ZipInfo) -> bool:
        head = os.pread(number, _LOCAL.size, item.header_offset)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            return False
        start, total = item.header_offset + _LOCAL.size + sum(_LOCAL.unpack(head)[-2:]), 0
        for place in range(start, start + item.file_size, _CHUNK):
            size = min(_CHUNK, start + item.file_size - place)
            total = zlib.crc32(os.pread(number, size, place), total)
        return total == item.CRC

    with ThreadPoolExecutor(_SUM_THREADS) as pool:  # zlib lets other threads run
        sound = pool.map(is_sound, items)
        return next((i.filename for i, ok in zip(items, sound, strict=True) if not ok), None)


def _check_sums(path: Path, sums: Future[str | None]) -> None:
    """Raise if a record's check sum is wrong."""
    if (damaged := sums.result()) is not None:
        raise unreadable(path, f"wrong checksum of record {damaged}")


def import_safetensors(what: str) -> Any:
    """Import the package that `what` needs."""
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        hint = "run: pip install 'ffreid[safetensors]'"
        raise UserError(f"{what} needs the package safetensors", hint) from error


def _check_stream(path: Path, file: BinaryIO, trust: bool) -> bool:
    """Check torch's format before 1.6: pickles one after the other, then the storages."""
    magic = scan_pickle(file, set())
    if magic.refused:
        raise unreadable(path, f"{REFUSED}: {magic.list_refused()}", SAVED)
    if magic.value != MAGIC:
        if magic.damage:
            raise unreadable(path, "unknown format, or damaged header")
        raise unreadable(path, "a pickle that was not written by torch.save", SAVED)
    version, _, scan, keys = (scan_pickle(file, WEIGHTS) for _ in range(4))
    if _check_scan(path, scan, trust):
        return True
    size = path.stat().st_size
    if version.value != VERSION or sorted(keys.strings) != sorted(scan.storages):
        raise unreadable(path, f"damaged or truncated ({size:,} bytes)")
    for key in keys.strings:
        elements, item_size = scan.storages[key]
        count = file.read(8)  # followed by the elements
        end = file.tell() + elements * item_size
        if len(count) < 8 or end > size:
            raise unreadable(path, f"truncated: {size:,} of {end:,} or more bytes")
        if struct.unpack("<q", count)[0] != elements:
            raise unreadable(path, "damaged: its sizes are inconsistent")
        file.seek(end)
    return False


def _check_scan(path: Path, scan: PickleScan, trust: bool) -> bool:
    """Raise if a pickle must not be loaded; return whether only running it can load it."""
    if scan.refused and not trust:
        hint = TRUST.format("use a file that contains only weights", path)
        raise unreadable(path, f"{REFUSED}: {scan.list_refused()}", hint)
    if scan.damage and not scan.refused:
        raise unreadable(path, f"its pickle is damaged or truncated ({scan.damage})")
    if scan.protocol > 3 and not trust:
        what = f"its pickle has protocol {scan.protocol}; without executing it, torch reads only 2"
        hint = TRUST.format("save it again without pickle_protocol", path)
        raise unreadable(path, what, hint)
    return bool(scan.refused) or scan.protocol > 3


def _load(path: Path, file: BinaryIO, *, mapped: bool = False) -> Any:
    """Have torch load a file that passed the checks, without running any of it."""
    make_scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    known: list[Any] = [np.dtype, *map(type, NUMBERS), *itertools.product([make_scalar], names)]
    # torch would take a file named .safetensors for one; mmap needs the name.
    source = str(path) if mapped else file
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")  # of old formats
            content = torch.load(source, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # torch raises half a dozen types here, and its text advises to switch safety off.
        raise _load_error(path, error, "torch cannot read it") from error
    if problem := find_problem(content):
        raise unreadable(path, f"its pickle is damaged: {problem}")
    return content


def _run(path: Path, file: BinaryIO) -> Any:
    """Have torch run a trusted pickle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=False)
    except ImportError as error:
        hint = "add the folder of that module: PYTHONPATH=FOLDER ffreid convert-ckpt …"
        raise unreadable(path, f"its pickle needs the module {error.name}", hint) from error
    except Exception as error:  # whatever the pickle runs into
        raise _load_error(path, error, "its pickle raised an error") from error


def _load_error(path: Path, error: Exception, problem: str) -> UserError:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return UserError(
            f"not enough memory to read {path} ({path.stat().st_size / 1e9:.1f} GB)",
            "close other programs, or use a machine with more memory",
        )
    return unreadable(path, f"{problem} ({type(error).__name__})")


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
                return f"a tensor of {item.numel():,} elements has a storage of only {stored:,}"
            if item._backward_hooks:
                return "a tensor has hooks"
        elif type(item) in (dict, OrderedDict, Counter):
            if type(item) is OrderedDict and vars(item).keys() - {"_metadata"}:
                return "a dict has attributes"
            queue += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            queue += item
        elif not isinstance(item, (*SCALARS, torch.dtype, torch.device, *more)):
            return f"it contains a {type(item).__name__}"
    return ""
