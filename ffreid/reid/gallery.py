"""Features of a gallery, kept in a file beside it by the contents of its pictures.

The file is named after the gallery and a fingerprint of network and settings. After 64 bytes of
header it is a sequence of records: 16 bytes of a hash of the pictures' contents, and the feature
(D,) in float16. It only grows, a batch at a time, so that an interrupted extraction continues.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.dataset_files import reason_of
from ffreid.engine.synthetic import cache_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.reid.data.pictures import Picture, read_picture
from ffreid.reid.defaults import is_video
from ffreid.reid.own_files import Item
from ffreid.reid.predictor import ReidModel
from ffreid.report import log

VERSION = 1
_HEADER = 64
_THREADS = 8
_TRACKLETS = 16
"""Tracklets that are read at a time."""
_CHECKED = 4096
"""Records whose lengths are checked at a time."""
_UNIT_TOLERANCE = 0.01
_NOT_OF_THE_NETWORK = ("BACKBONE", "RESUME")
"""Settings of MODEL that say where weights come from."""
_INCOMPLETE = b"without frames that cannot be read"
if sys.platform != "win32":
    import fcntl


def fingerprint(cfg: CfgNode, weights: Mapping[str, Tensor], *, rounding: bool = True) -> str:
    """A hash of all that features depend on besides pictures: a network's weights, settings.

    Without `rounding` settings that hardly change features are left out.
    """
    digest = hashlib.blake2b(digest_size=16)
    model = {key: value for key, value in cfg.MODEL.items() if key not in _NOT_OF_THE_NETWORK}
    settings = [VERSION, model, cfg.DATA.HEIGHT, cfg.DATA.WIDTH]
    settings += [cfg.AUG.SEQ_LEN, cfg.AUG.SAMPLING_STRIDE] if is_video(cfg) else []
    if rounding:
        settings += [precision.dtype(cfg), cfg.DATA.DECODE, cfg.TEST.PRECISION, cfg.TEST.ENGINE]
    digest.update(repr(settings).encode())
    for name, value in weights.items():
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + content.numpy().tobytes())
    return digest.hexdigest()


class FeatureFile:
    """Features by key in a file, which is created when the first are added.

    Raises:
        UserError: the file is of another kind, or cannot be read.
    """

    def __init__(self, path: Path, width: int, mark: str) -> None:
        self.path = path
        self.record = np.dtype([("key", "V16"), ("feature", "<f2", (width,))])
        self.header = f"ffreid features {VERSION} {mark}"[:_HEADER].encode().ljust(_HEADER)
        self.rows: dict[bytes, int] = {}
        self.features: npt.NDArray[np.float16] = np.empty((0, width), np.float16)
        self.reload()

    def reload(self) -> None:
        """Map the file, with what was added."""
        self.rows = {}
        self._open()

    def _open(self) -> None:
        try:
            size = regular(self.path).stat().st_size
            with self.path.open("rb") as file:
                header = file.read(_HEADER)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(
                f"cannot read {self.path}: {reason_of(error)}", "remove it, or make it readable"
            ) from error
        if not self.header.startswith(header):
            raise UserError(
                f"{self.path} contains no features: it starts with {header[:16]!r}", "remove it"
            )
        count = max(size - _HEADER, 0) // self.record.itemsize
        if not count:
            return
        records = np.memmap(self.path, self.record, "r", _HEADER, count)
        self.features = records["feature"]
        for start in range(0, count, _CHECKED):
            part = records[start : start + _CHECKED]
            lengths = np.linalg.norm(part["feature"].astype(np.float32), axis=1)
            # What a power cut left is not a feature.
            sound = np.abs(lengths - 1) < _UNIT_TOLERANCE
            keys = part["key"].tobytes()
            for index in np.flatnonzero(sound).tolist():
                self.rows[keys[16 * index : 16 * index + 16]] = start + index

    def add(self, keys: Sequence[bytes], features: Tensor) -> None:
        """Append features (N, D)."""
        records = np.empty(len(keys), self.record)
        records["key"] = np.frombuffer(b"".join(keys), "V16")
        records["feature"] = features.numpy().astype(np.float16)
        try:
            with self.path.open("ab") as file:
                if sys.platform != "win32":
                    with suppress(OSError):  # not on every file system
                        fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0, os.SEEK_END)
                rest = max(file.tell() - _HEADER, 0) % self.record.itemsize
                start = max(file.tell() - rest, 0) if file.tell() > _HEADER else 0
                file.truncate(start)  # a killed process may have left a part of a record
                file.write((b"" if start else self.header) + records.tobytes())
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {reason_of(error)}",
                "free disk space; the features so far are kept",
            ) from error


@contextmanager
def open_features(model: ReidModel, gallery: Path | None, mark: str) -> Iterator[FeatureFile]:
    """Open the file of a gallery's features: beside it, else in the cache folder, with a note.

    Without a gallery, or where nothing can be written, the file is temporary. `mark` is the
    network's `fingerprint`.
    """
    width = int(model.cfg.MODEL.FEATURE_DIM)
    with tempfile.TemporaryDirectory(prefix="ffreid-", ignore_cleanup_errors=True) as folder:
        path = _writable(gallery.resolve(), mark) if gallery is not None else None
        yield FeatureFile(path or Path(folder, "features"), width, mark)


def _writable(gallery: Path, mark: str) -> Path | None:
    """A path to keep features in; None where there is none."""
    name = gallery.name or "gallery"
    beside = gallery.with_name(f"{name}.{mark[:12]}.features")
    place = hashlib.blake2b(os.fsencode(gallery), digest_size=6).hexdigest()
    cached = cache_folder() / "features" / f"{name}.{place}.{mark[:12]}.features"
    for path in (beside, cached):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path is cached and beside.is_file() and not path.exists():
                shutil.copyfile(beside, path)
            with path.open("ab"):
                pass
        except OSError:
            continue
        if path is cached:
            log(f"note: {beside} cannot be written: features are kept in {path}")
        return path
    log(f"note: neither {beside} nor {cached} can be written: features are not kept")
    return None


@dataclass(frozen=True)
class ItemFeatures:
    """Where the features of items are.

    Attributes:
        rows: (N,) in the file, -1 for items without a readable picture.
        keys: of the items; equal for equal pictures.
        unreadable: reasons by path.
        extracted: number of features that the file lacked.
    """

    rows: npt.NDArray[np.int64]
    keys: tuple[bytes, ...]
    unreadable: dict[str, str]
    extracted: int


def item_features(model: ReidModel, items: Sequence[Item], file: FeatureFile) -> ItemFeatures:
    """Find the features of items in `file`, and add those that it lacks.

    Of a tracklet the readable frames are used.
    """
    reasons: dict[bytes, dict[int, str]] = {}
    added = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        keys = list(pool.map(_key, items))
        first = {key: index for index, key in reversed([*enumerate(keys)])}
        missing = [index for key, index in reversed(first.items()) if key not in file.rows]
        with ProgressBar("reading pictures", len(missing), show=bool(missing)) as bar:
            for batch in _read_ahead(pool, model, [(keys[i], items[i]) for i in missing]):
                new: dict[bytes, list[Picture]] = {}
                for key, (images, failed) in batch:
                    reasons |= {key: failed} if failed else {}
                    key = _incomplete(key) if failed else key
                    new |= {key: images} if images and key not in file.rows else {}
                if new:
                    pictures = new.values()
                    file.add([*new], model.embed([i if model.video else i[0] for i in pictures]))
                added += len(new)
                bar.advance(len(batch))
    if added:
        file.reload()
    unreadable: dict[str, str] = {}
    for item, key in zip(items, keys, strict=True):
        frames = items[first[key]].frames
        for number, reason in reasons.get(key, {}).items():
            path = str(item.frames[number])
            unreadable[path] = reason.replace(str(frames[number]), path)
    keys = [_incomplete(key) if key in reasons else key for key in keys]
    rows = np.array([file.rows.get(key, -1) for key in keys], np.int64)
    return ItemFeatures(rows, tuple(keys), unreadable, added)


Images = tuple[list[Picture], dict[int, str]]
"""An item's images, in the network's size, and reasons by number of those that are unreadable."""


def _read_ahead(
    pool: ThreadPoolExecutor, model: ReidModel, items: Sequence[tuple[bytes, Item]]
) -> Iterator[list[tuple[bytes, Images]]]:
    """Yield batches of read items with their keys; meanwhile the next batch is read."""
    size = _TRACKLETS if model.video else int(model.cfg.DATA.TEST_BATCH)
    waiting: list[tuple[bytes, Future[Images]]] = []
    for start in range(0, len(items) + size, size):
        batch = items[start : start + size]
        reading = [(key, pool.submit(_read, model, item)) for key, item in batch]
        if waiting:
            yield [(key, future.result()) for key, future in waiting]
        waiting = reading


def _read(model: ReidModel, item: Item) -> Images:
    images, failed = list[Picture](), dict[int, str]()
    for number, frame in enumerate(item.frames):
        try:
            images.append(model.prepare.resize(read_picture(frame, model.cfg.DATA.DECODE)))
        except UserError as error:
            failed[number] = error.message
    return images, failed


def _key(item: Item) -> bytes:
    """The hash of the contents of an item's files."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in item.frames:
        digest.update(_content(frame))
    return digest.digest()


def _content(path: Path) -> bytes:
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:  # reported when it is read
        return hashlib.blake2b(os.fsencode(path)).digest()


def _incomplete(key: bytes) -> bytes:
    return hashlib.blake2b(key + _INCOMPLETE, digest_size=16).digest()
