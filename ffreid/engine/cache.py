"""Arrays that are slow to compute, kept in a folder and read by any number of processes.

The folder is named after what the arrays depend on besides their files. It holds ``arrays.bin``,
the entries one after the other, and ``index.jsonl``, a line for each entry, written once its arrays
are on the disk. Both are only appended to: who reads never sees a change, and a killed process
leaves at most the beginning of an entry, which the next one overwrites.
"""

import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ffreid import report
from ffreid.engine import loading
from ffreid.engine.distributed import group
from ffreid.engine.tracking import run_lock
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError

VERSION = 1
"""Another one makes other folders: raise it where the same settings give other arrays."""
FOLDER = ".ffreid-cache"
"""Of caches beside a dataset."""
ARRAYS, INDEX = "arrays.bin", "index.jsonl"
STEP = 512
"""Bytes: entries start at multiples of it, and sums of as many are what is checked."""
KEPT_EVERY = 64 << 20
"""Bytes after which arrays and index are flushed to the disk."""
_BATCH = 8
"""Entries that a worker computes at once."""

Arrays = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Plan:
    """What a cache holds.

    Attributes:
        name: of the dataset, for the folder's name.
        home: the dataset's folder.
        settings: what the arrays depend on besides the files; JSON data.
        files: returns the files of each entry, by its name.
        compute: the arrays of an entry from its name; None leaves it out.
    """

    name: str
    home: Path
    settings: Mapping[str, Any]
    files: Callable[[], Mapping[str, Sequence[str]]]
    compute: Callable[[str], Arrays | None]

    def folder(self, where: str) -> Path:
        """The cache's folder, in the folder `where` or beside the dataset."""
        text = json.dumps({"version": VERSION, **self.settings}, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return Path(where or self.home / FOLDER) / f"{self.name}-{digest}"


class _Entry(NamedTuple):
    """A line of the index: size and time (ns) of each file, type and shape of each array."""

    name: str
    files: Sequence[int]
    start: int
    end: int
    checksum: int
    arrays: Sequence[Any]


@dataclass
class Cache:
    """A cache to read from."""

    folder: Path
    entries: Mapping[str, _Entry]

    def get(self, name: str, files: Iterable[str]) -> Arrays | None:
        """The arrays of an entry; None if there is none, or its files have changed since.

        Raises:
            UserError: the cache is damaged.
        """
        entry = self.entries.get(name)
        if entry is None or entry.files != _state(files):
            return None
        content = np.array(self._content[entry.start : entry.end])
        if len(content) != entry.end - entry.start or _checksum(content) != entry.checksum:
            raise UserError(
                f"the cache {self.folder} is damaged: {name} is not what was written",
                "remove this folder, and fill it again with ffreid data cache",
            )
        arrays, start = [], 0
        for kind, shape in entry.arrays:
            end = start + prod(shape) * np.dtype(kind).itemsize
            arrays.append(content[start:end].view(kind).reshape(shape))
            start = end
        return tuple(arrays)

    @cached_property
    def _content(self) -> npt.NDArray[np.uint8]:
        try:
            return np.memmap(self.folder / ARRAYS, np.uint8, "r")
        except (OSError, ValueError):  # missing or empty
            return np.empty(0, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "entries": self.entries}  # not the arrays themselves


def find(plan: Plan, where: str) -> Cache | None:
    """Open the cache of `plan`, with notes on what it lacks; None if there is none.

    `where` is a folder, "" for beside the dataset, or ``none``.
    """
    if where == "none":
        return None
    command = f"ffreid data cache --dataset {plan.name}, with the same settings, fills it"
    tell = report.log if group.rank() == 0 else lambda *lines: None
    folder = plan.folder(where)
    if not (folder / INDEX).is_file():
        others = sorted(folder.parent.glob(f"{plan.name}-*")) if folder.parent.is_dir() else []
        if where or others:
            found = "those there have other settings" if others else "there is none"
            tell(f"note: no cache in {folder.parent} is used, {found}: {command}")
        return None
    cache = Cache(folder, _read_index(folder)[0])
    every = plan.files()
    missing = [name for name, files in every.items() if not _is_current(cache, name, files)]
    tell(f"cache: {folder}")
    if missing:
        tell(
            f"note: {len(missing)} of {len(every)} entries, e.g. {missing[0]}, are missing "
            f"in the cache, or their files have changed; they are read from the dataset: {command}"
        )
    return cache


def fill(plan: Plan, where: str, workers: int) -> Path:
    """Compute what the cache lacks, and return its folder.

    Raises:
        UserError: an entry cannot be computed, the disk is full or read-only, or another process
            is filling the cache; what was written is kept.
    """
    folder = plan.folder(where)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / run_lock.NAME).open("ab") as lock:
            try:
                run_lock.lock_file(lock)
            except OSError as error:
                if error.errno in run_lock.BUSY:
                    problem = f"another process is filling the cache {folder}"
                    raise UserError(problem, "wait for its end") from error
            _fill(plan, folder, workers)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UserError(
            f"cannot write the cache {folder}: {error.strerror or error}",
            f"{'free space to go on with what is written, or ' * is_full}use --out FOLDER",
        ) from error
    return folder


def _fill(plan: Plan, folder: Path, workers: int) -> None:
    (folder / "about.json").write_text(json.dumps({"version": VERSION, **plan.settings}) + "\n")
    entries, length = _read_index(folder)
    known = Cache(folder, entries)
    every = plan.files()
    names = [name for name, files in every.items() if not _is_current(known, name, files)]
    first = next(filter(None, map(plan.compute, names)), ())
    size = -(-sum(array.nbytes for array in first) // STEP) * STEP
    report.log(
        f"cache: {folder}: {len(every) - len(names)} entries are there, {len(names)} to "
        f"compute, {size * len(names) / 1e9:.2f} GB"
    )
    free = shutil.disk_usage(folder).free
    if size * len(names) > free:
        raise UserError(
            f"the cache needs {size * len(names) / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB",
            "free space, or use --out FOLDER on another disk",
        )
    batches = [names[i : i + _BATCH] for i in range(0, len(names), _BATCH)]
    stream = loading.stream(_Computed(plan, every), batches, list, workers=workers)
    total, skipped = len(every), 0
    with _Writer(folder, entries, length) as writer, ProgressBar("caching", total) as bar:
        bar.done = bar.initial = total - len(names)
        for batch in stream:
            for name, state, arrays in batch:
                skipped += arrays is None
                if arrays is not None and state is not None:
                    writer.add(name, state, arrays)
            bar.advance(len(batch))
    if skipped:
        report.log(f"note: {skipped} entries cannot be read and are left out")


class _Computed(torch.utils.data.Dataset[tuple[str, Any, Arrays | None]]):
    """Entries by name, each with the state of its files before they were read."""

    def __init__(self, plan: Plan, files: Mapping[str, Sequence[str]]) -> None:
        self.plan, self.files = plan, files

    def __getitem__(self, name: str) -> tuple[str, Any, Arrays | None]:
        return name, _state(self.files[name]), self.plan.compute(name)


class _Writer:
    """Appends entries; a line of the index follows its flushed arrays."""

    def __init__(self, folder: Path, entries: Mapping[str, _Entry], length: int) -> None:
        self.end = max((entry.end for entry in entries.values()), default=0)
        self.arrays, self.index = (
            (folder / name).open("ab", buffering=0) for name in (ARRAYS, INDEX)
        )
        self.arrays.truncate(self.end)  # what no line names
        self.length = length
        self.lines: list[str] = []
        self.pending = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with self.arrays, self.index:
            self.keep()

    def add(self, name: str, state: Sequence[int], arrays: Arrays) -> None:
        """Append an entry."""
        content = b"".join(array.tobytes() for array in arrays)
        content += bytes(-len(content) % STEP)
        kinds = [(array.dtype.str, list(array.shape)) for array in arrays]
        checksum = _checksum(np.frombuffer(content, np.uint8))
        _write(self.arrays, content)
        end = self.end + len(content)
        self.lines.append(json.dumps(_Entry(name, state, self.end, end, checksum, kinds)))
        self.end = end
        self.pending += len(content)
        if self.pending >= KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        """Flush the arrays to the disk, then the lines that name them."""
        # Without what is written in part, where the disk is full.
        self.arrays.truncate(self.end)
        os.fsync(self.arrays.fileno())
        content = "".join(f"{line}\n" for line in self.lines).encode()
        self.index.truncate(self.length)
        _write(self.index, content)
        os.fsync(self.index.fileno())
        self.length += len(content)
        self.lines, self.pending = [], 0


def _write(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _read_index(folder: Path) -> tuple[dict[str, _Entry], int]:
    """The entries by name, the last of each, and the bytes of their lines."""
    path = folder / INDEX
    content = path.read_bytes() if path.is_file() else b""
    content = content[: content.rfind(b"\n") + 1]  # a killed process may leave a part of a line
    try:
        rows = json.loads(b"[" + content.rstrip().replace(b"\n", b",") + b"]")
        shared: dict[str, Any] = {}  # most entries have arrays of the same shapes
        for row in rows:
            row[-1] = shared.setdefault(str(row[-1]), row[-1])
        entries = {row[0]: _Entry(*row) for row in rows}
        end = max((entry.end for entry in entries.values()), default=0)
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"the cache {folder} is damaged: {INDEX}", "remove this folder") from error
    arrays = folder / ARRAYS
    if end > (arrays.stat().st_size if arrays.is_file() else 0):
        raise UserError(
            f"the cache {folder} is damaged: {ARRAYS} is too short", "remove this folder"
        )
    return entries, len(content)


def _is_current(cache: Cache, name: str, files: Iterable[str]) -> bool:
    entry = cache.entries.get(name)
    return entry is not None and entry.files == _state(files)


def _state(files: Iterable[str]) -> list[int] | None:
    """Sizes and times of change of files; None if one is missing."""
    try:
        found = [os.stat(file) for file in files]  # noqa: PTH116 - a Path costs as much again
    except OSError:
        return None
    return [number for state in found for number in (state.st_size, state.st_mtime_ns)]


def _checksum(content: npt.NDArray[np.uint8]) -> int:
    """CRC-32 of the sums of every 512 bytes, as numbers of 64 bits: in the time of a copy."""
    return zlib.crc32(content.view(np.uint64).reshape(-1, 64).sum(axis=1))
