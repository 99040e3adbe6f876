"""Spoils small checkpoints in thousands of ways: each is refused in two lines or read soundly.

    python -m tests.fuzz --count 5000 [--seed 0] [--workers 2]

Each worker is a process of its own, so that a crash or a hang ends it alone and is told.
"""

import argparse
import io
import multiprocessing
import pickle
import re
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor, nn

from ffreid import report
from ffreid.engine.checkpoints import contents, reader
from ffreid.engine.checkpoints import io as checkpoint_io
from ffreid.errors import UserError
from ffreid.pose import convert as pose
from ffreid.reid import convert as reid

PLAIN = (bool, int, float, complex, str, bytes, np.generic, torch.Size, torch.dtype, torch.device)
SECONDS = 20
MEGABYTES = 400
"""What a few kilobytes may take at most, in time and memory."""


def network() -> nn.Module:
    """A few kilobytes of weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5))


def ours() -> dict[str, Any]:
    """What a run of ours keeps."""
    net = network()
    optimiser = torch.optim.Adam(net.parameters())
    sum(value.sum() for value in net.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    return {
        "parts": {"net": net.state_dict()},
        "optimisers": {"net": optimiser.state_dict()},
        "step": 7,
        "best": float("inf"),
        "names": ["ape", "can"],
    }


def theirs() -> dict[str, Any]:
    """What the authors' programs kept: prefixes, numpy's numbers, apex's state."""
    weights = OrderedDict((f"module.{key}", value) for key, value in network().state_dict().items())
    return {
        "model_state": weights,
        "epoch": np.int64(3),
        "best_prec": np.float64(0.25),
        "rank1": np.float32(0.5),
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 12}},
        "half": torch.ones(3, 4).half().t(),
        "view": torch.arange(10)[2:5],
    }


def zipped(state: Any) -> bytes:
    """The form of torch 1.6 and later."""
    written = io.BytesIO()
    torch.save(state, written)
    return written.getvalue()


def streamed(state: Any) -> bytes:
    """The form before torch 1.6."""
    written = io.BytesIO()
    torch.save(state, written, _use_new_zipfile_serialization=False)
    return written.getvalue()


def tarred(weights: Mapping[str, Tensor]) -> bytes:
    """The form before torch 0.1.10; float32 alone."""
    storages, tensors, keys = io.BytesIO(), io.BytesIO(), {}
    pickle.dump(len(weights), storages, 2)
    pickle.dump(len(weights), tensors, 2)
    for number, (key, value) in enumerate(weights.items()):
        pickle.dump((number, "cpu", torch.FloatStorage), storages, 2)
        storages.write(struct.pack("<q", value.numel()) + value.numpy().tobytes())
        pickle.dump((100 + number, number, torch.FloatTensor), tensors, 2)
        tensors.write(struct.pack("<ii", value.dim(), 0))
        tensors.write(struct.pack(f"<{2 * value.dim() + 1}q", *value.shape, *value.stride(), 0))
        keys[key] = 100 + number
    pickle.dump([], storages, 2)
    written, content = io.BytesIO(), io.BytesIO()
    pickler = _ById(content, keys)
    pickler.dump({key: _Numbered(number) for key, number in keys.items()})
    with tarfile.open(fileobj=written, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, part in (("storages", storages), ("tensors", tensors), ("pickle", content)):
            item = tarfile.TarInfo(name)
            item.size = len(part.getvalue())
            archive.addfile(item, io.BytesIO(part.getvalue()))
    return written.getvalue()


class _Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


class _ById(pickle._Pickler):
    """Writes tensors by their numbers, as text, which is what that form did."""

    def __init__(self, file: io.BytesIO, keys: Mapping[str, int]) -> None:
        super().__init__(file, 2)
        self.keys = keys

    def persistent_id(self, obj: Any) -> Any:
        return str(obj.number) if isinstance(obj, _Numbered) else None


def sources() -> dict[str, bytes]:
    """Sound files by name."""
    archive = io.BytesIO()
    np.savez(archive, a=np.arange(6.0))
    return {
        "ours": zipped(ours()),
        "ours, old form": streamed(ours()),
        "theirs": zipped(theirs()),
        "theirs, old form": streamed(theirs()),
        "bare": streamed(network().state_dict()),
        "tar": tarred({"weight": torch.arange(6.0).reshape(2, 3)}),
        "npz": archive.getvalue(),
    }


def cut(content: bytes, random: RandomState) -> bytes:
    """End it early: by a few bytes, or anywhere."""
    return (
        content[: -random.randint(1, 100)]
        if random.rand() < 0.3
        else content[: random.randint(len(content))]
    )


def flip(content: bytes, random: RandomState) -> bytes:
    """Turn over one to eight bits."""
    changed = bytearray(content)
    for place in random.randint(len(content), size=random.randint(1, 9)):
        changed[place] ^= 1 << random.randint(8)
    return bytes(changed)


def flip_once(content: bytes, random: RandomState) -> bytes:
    """Turn over one bit."""
    changed = bytearray(content)
    changed[random.randint(len(content))] ^= 1 << random.randint(8)
    return bytes(changed)


def write_over(content: bytes, random: RandomState) -> bytes:
    """Zeros, ones or anything over up to a hundred bytes."""
    place, count = random.randint(len(content)), random.randint(1, 100)
    fill = [bytes(count), b"\xff" * count, random.bytes(count)][random.randint(3)]
    return content[:place] + fill[: len(content) - place] + content[place + count :]


def move(content: bytes, random: RandomState) -> bytes:
    """Leave out or repeat a piece."""
    first, last = sorted(random.randint(len(content), size=2))
    if random.rand() < 0.5:
        return content[:first] + content[last:]
    return content[:last] + content[first:]


def make_up(content: bytes, random: RandomState) -> bytes:
    """Anything, behind the first bytes or from the start."""
    return content[: random.choice([0, 4, 64])] + random.bytes(random.randint(1, 2000))


SPOIL: tuple[Callable[[bytes, RandomState], bytes], ...] = (
    cut,
    flip_once,
    flip,
    write_over,
    move,
    make_up,
)


def spoilt_pickle(content: bytes, random: RandomState) -> bytes:
    """Spoil what is pickled in a zip and pack it anew, with its check sums right."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        for item in old.infolist():
            inside = old.read(item)
            if item.filename.endswith("data.pkl"):
                inside = SPOIL[random.randint(len(SPOIL))](inside, random)
            new.writestr(item, inside)
    return written.getvalue()


def spoil(content: bytes, random: RandomState) -> tuple[bytes, bool]:
    """Damage a file in one way or another; whether its check sums can tell."""
    if not content.startswith(b"PK"):
        return SPOIL[random.randint(len(SPOIL))](content, random), False
    if random.rand() < 0.5:
        return spoilt_pickle(content, random), False
    return SPOIL[random.randint(len(SPOIL))](content, random), True


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints are equal, tensors bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return [*one] == [*other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def look_through(value: Any) -> None:
    """Go through what was read, every number of it; AssertionError if it holds anything odd."""
    if isinstance(value, Tensor):
        assert value.device.type == "cpu"
        assert value.numel() <= 2**20
        value.clone()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            look_through(key)
            look_through(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            look_through(item)
    else:
        assert value is None or isinstance(value, PLAIN), type(value)


def attempt(path: Path, whole: Any = None) -> str:
    """Read a spoilt file: ``sound``, or why it is refused.

    Args:
        path: the file.
        whole: what it must hold if it is read; None for anything plain.

    Raises:
        AssertionError: it was told badly, or what was read is odd.
    """
    try:
        state = checkpoint_io.read(path)
    except UserError as error:
        message, hint = error.message, error.hint
        assert message.isprintable() and hint.isprintable(), message
        assert "weights_only" not in message + hint
        assert message.startswith(f"{path} is no readable checkpoint: "), message
        told = re.sub(r"[\d,]+", "N", message.partition(": ")[2])
        return re.sub("(weights:|its record|zip of) .*", r"\1 …", told)
    look_through(state)
    assert whole is None or same(state, whole)
    if isinstance(state, Mapping):
        found = contents.identify(state)
        for room in (pose, reid):
            room.claims(found)
    return "sound"


def tries(seed: int, numbers: range, folder: Path, at: Any = None) -> Counter[str]:
    """Spoil and read so many files; what became of them.

    Raises:
        AssertionError: naming the case that went wrong.
    """
    outcomes: Counter[str] = Counter()
    known, whole = [*sources().items()], {"ours": ours(), "theirs": theirs()}
    path = folder / "spoilt.pth"
    for number in numbers:
        if at is not None:
            at.value = number
            signal.alarm(SECONDS)
        random = RandomState([seed, number])
        name, content = known[number % len(known)]
        spoilt, summed = spoil(content, random)
        path.write_bytes(spoilt)
        try:
            # Every second one as if it were large.
            with mock.patch.object(reader, "MAPPED", number // len(known) % 2 * 10**9):
                outcomes[attempt(path, whole.get(name) if summed else None)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {number} ({name})") from error
    signal.alarm(0)
    return outcomes


def work(seed: int, numbers: range, at: Any, results: Any) -> None:
    """Be one worker; the alarm's default, and what memory is over, ends it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tries(seed, numbers[:1], Path(folder), at)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = tries(seed, numbers, Path(folder), at)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert grown < MEGABYTES, f"{grown} MB were taken"
    results.put(outcomes)


def main() -> int:
    """Spoil, read and tell; 1 where a worker crashed, hung, or met another error."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="files to spoil")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    started, context = time.monotonic(), multiprocessing.get_context("spawn")
    outcomes: Counter[str] = Counter()
    results, busy = context.Queue(), []
    for first in range(given.workers):
        at = context.Value("q", -1)
        numbers = range(first, given.count, given.workers)
        worker = context.Process(target=work, args=(given.seed, numbers, at, results))
        worker.start()
        busy.append((worker, at))
    failed = 0
    for worker, at in busy:
        worker.join()
        if worker.exitcode:
            failed = 1
            report.log(f"error: seed {given.seed}, case {at.value}: exit code {worker.exitcode}")
    while not results.empty():
        outcomes += results.get()
    for outcome, count in outcomes.most_common():
        report.log(f"{count:6d} {outcome}")
    report.log(f"{sum(outcomes.values())} files, {time.monotonic() - started:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
