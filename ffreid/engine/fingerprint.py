"""A fingerprint of the data in checkpoints, so that a resumed run sees the same data."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffreid.errors import UserError, flat
from ffreid.files import regular

_CHUNK = 500  # files are examined in parallel, as network file systems answer slowly


@dataclass(frozen=True)
class Item:
    """A sample's name, its files and its labels."""

    name: str
    files: Sequence[Path]
    labels: Sequence[int] = ()


def digests(items: Sequence[Item], kind: str) -> Tensor:
    """Hash each item's name, its labels, and its files' ``sizes`` or ``contents``: (N,) int64.

    The kind ``names`` leaves out the files.
    """
    chunks = [(items[i : i + _CHUNK], kind) for i in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(16) as pool:
        values = b"".join(pool.map(_digest_chunk, chunks))
    return torch.from_numpy(np.frombuffer(values, np.int64).copy())


def _digest_chunk(chunk: tuple[Sequence[Item], str]) -> bytes:
    items, kind = chunk
    describe = {"sizes": _size, "contents": _hash_file}.get(kind, _nothing)
    return b"".join(
        hashlib.blake2b(
            repr((item.name, list(item.labels), [describe(path) for path in item.files])).encode(),
            digest_size=8,
        ).digest()
        for item in items
    )


def _nothing(path: Path) -> str:
    return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # training reports it
        return -1


def _hash_file(path: Path) -> str:
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""


def facts(items: Sequence[Item], state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what must be the same in all processes of a run, resumed from `state`."""
    names = digests(items, "names")
    parts = {} if state is None else state["parts"]
    return {
        "the number of samples": len(names),
        "the hash of the lists of samples": hash(tuple(names.tolist())),
        "the step resumed from": None if state is None else state["step"],
        "the checksum of the weights resumed": [*map(checksum, parts.values())],
    }


def checksum(weights: Mapping[str, Tensor]) -> int:
    """Compute the CRC-32 of all weights' bytes."""
    total = 0
    for value in weights.values():
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(content.numpy().data, total)
    return total


def check(then: Tensor, origin: str, items: Sequence[Item], now: Tensor) -> None:
    """Refuse to resume if the digests of the data, `then` in the checkpoint, differ `now`.

    Raises:
        UserError: naming the first samples that differ.
    """
    if torch.equal(then, now):
        return
    known, current = set(then.tolist()), now.tolist()
    names = [item.name for item, digest in zip(items, current, strict=True) if digest not in known]
    lost = len(known.difference(current))
    if names or lost:
        first = f" ({', '.join(map(flat, names[:3]))}{', …' * (len(names) > 3)})" if names else ""
        problem = f"new or changed: {len(names)}{first}; gone or changed: {lost}"
    else:
        problem = "the samples are in another order"
    raise UserError(
        f"the training or evaluation data are not those of {origin}: {problem}",
        "restore them, or resume with --data-changed; the result will differ from that of an "
        "uninterrupted run",
    )
