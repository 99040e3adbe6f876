"""Damages small checkpoints in thousands of ways: each must be refused with a hint or be valid.

    python -m tests.fuzz --count 5000 [--seed 0] [--workers 2]

The workers are processes, so that a crash or a hang is reported.
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
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
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
from ffreid.tasks import TASKS, converter

PLAIN = (bool, int, float, complex, str, bytes, np.generic, torch.Size, torch.dtype, torch.device)
SECONDS = 20
MEGABYTES = 400
"""Limits for reading a few kilobytes."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5))


def ffreid_state() -> dict[str, Any]:
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


def original_state() -> dict[str, Any]:
    """A checkpoint like the originals': prefixes, numpy numbers, apex's state."""
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


def zip_save(state: Any, *, is_zip: bool = True) -> bytes:
    written = io.BytesIO()
    torch.save(state, written, _use_new_zipfile_serialization=is_zip)
    return written.getvalue()


legacy_save = partial(zip_save, is_zip=False)
"""Save in the format before torch 1.6."""


def tar_save(weights: Mapping[str, Tensor]) -> bytes:
    """Save in the format before torch 0.1.10; float32 only."""
    storages, tensors = io.BytesIO(), io.BytesIO()
    pickle.dump(len(weights), storages, 2)
    pickle.dump(len(weights), tensors, 2)
    content = b"\x80\x02}"
    for number, (key, value) in enumerate(weights.items()):
        pickle.dump((number, "cpu", torch.FloatStorage), storages, 2)
        storages.write(struct.pack("<q", value.numel()) + value.numpy().tobytes())
        pickle.dump((100 + number, number, torch.FloatTensor), tensors, 2)
        tensors.write(struct.pack("<ii", value.dim(), 0))
        tensors.write(struct.pack(f"<{2 * value.dim() + 1}q", *value.shape, *value.stride(), 0))
        # A tensor is a persistent id, written as text: SHORT_BINSTRING key, PERSID, SETITEM.
        content += b"U%c%bP%d\ns" % (len(key), key.encode(), 100 + number)
    content += b"."
    pickle.dump([], storages, 2)
    written = io.BytesIO()
    parts = {"storages": storages.getvalue(), "tensors": tensors.getvalue(), "pickle": content}
    with tarfile.open(fileobj=written, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, part in parts.items():
            item = tarfile.TarInfo(name)
            item.size = len(part)
            archive.addfile(item, io.BytesIO(part))
    return written.getvalue()


def sources() -> dict[str, bytes]:
    archive = io.BytesIO()
    np.savez(archive, a=np.arange(6.0))
    return {
        "ffreid": zip_save(ffreid_state()),
        "ffreid, legacy": legacy_save(ffreid_state()),
        "original": zip_save(original_state()),
        "original, legacy": legacy_save(original_state()),
        "bare": legacy_save(network().state_dict()),
        "tar": tar_save({"weight": torch.arange(6.0).reshape(2, 3)}),
        "npz": archive.getvalue(),
    }


def truncate(content: bytes, random: RandomState) -> bytes:
    few = random.rand() < 0.3
    return content[: -random.randint(1, 100) if few else random.randint(len(content))]


def flip_bits(content: bytes, random: RandomState, most: int = 8) -> bytes:
    changed = bytearray(content)
    for position in random.randint(len(content), size=random.randint(1, most + 1)):
        changed[position] ^= 1 << random.randint(8)
    return bytes(changed)


def overwrite(content: bytes, random: RandomState) -> bytes:
    position, count = random.randint(len(content)), random.randint(1, 100)
    fill = [bytes(count), b"\xff" * count, random.bytes(count)][random.randint(3)]
    return content[:position] + fill[: len(content) - position] + content[position + count :]


def move(content: bytes, random: RandomState) -> bytes:
    first, last = sorted(random.randint(len(content), size=2))
    if random.rand() < 0.5:
        return content[:first] + content[last:]
    return content[:last] + content[first:]


def randomise(content: bytes, random: RandomState) -> bytes:
    return content[: random.choice([0, 4, 64])] + random.bytes(random.randint(1, 2000))


DAMAGES: tuple[Callable[[bytes, RandomState], bytes], ...] = (
    truncate,
    partial(flip_bits, most=1),
    flip_bits,
    overwrite,
    move,
    randomise,
)


def damage_pickle(content: bytes, random: RandomState) -> bytes:
    """Damage the pickle in a zip and keep the check sums right."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("data.pkl"):
                data = DAMAGES[random.randint(len(DAMAGES))](data, random)
            new.writestr(item, data)
    return written.getvalue()


def damage(content: bytes, random: RandomState) -> tuple[bytes, bool]:
    """Damage a file; whether its check sums show it."""
    is_zip = content.startswith(b"PK")
    if is_zip and random.rand() < 0.5:
        return damage_pickle(content, random), False
    return DAMAGES[random.randint(len(DAMAGES))](content, random), is_zip


def is_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return [*one] == [*other] and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)


def check_content(value: Any) -> None:
    """Visit every value of a checkpoint; AssertionError if one is of an unexpected type."""
    if isinstance(value, Tensor):
        assert value.device.type == "cpu"
        assert value.numel() <= 2**20
        value.clone()
    elif isinstance(value, Mapping):
        check_content([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set):
        for item in value:
            check_content(item)
    else:
        assert value is None or isinstance(value, PLAIN), type(value)


def attempt(path: Path, expected: Any = None) -> str:
    """Read a damaged file and return ``valid``, or why it is refused.

    If it is read, its content must be the `expected`, unless that is None.
    """
    try:
        state = checkpoint_io.read(path)
    except UserError as error:
        message, hint = error.message, error.hint
        assert message.isprintable() and hint.isprintable(), message
        assert "weights_only" not in message + hint
        assert message.startswith(f"cannot read checkpoint {path}: "), message
        problem = re.sub(r"[\d,]+", "N", message.partition(": ")[2])
        return re.sub("(asks for|of its record|zip of|it holds) .*", r"\1 …", problem)
    check_content(state)
    assert expected is None or is_equal(state, expected)
    if isinstance(state, Mapping):
        contents_ = contents.identify(state)
        for task in TASKS:
            converter(task).identify_network(contents_)
    return "valid"


def run_cases(seed: int, cases: range, folder: Path) -> Counter[str]:
    """Damage and read files; count the outcomes. An AssertionError names the case."""
    outcomes: Counter[str] = Counter()
    files, states = [*sources().items()], {"ffreid": ffreid_state(), "original": original_state()}
    path = folder / "damaged.pth"
    for case in cases:
        signal.alarm(SECONDS)
        name, content = files[case % len(files)]
        damaged, detectable = damage(content, RandomState([seed, case]))
        path.write_bytes(damaged)
        try:
            # Every second file is read as if it were large.
            with mock.patch.object(reader, "MMAP_BYTES", case // len(files) % 2 * 10**9):
                outcomes[attempt(path, states.get(name) if detectable else None)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case} ({name})") from error
    signal.alarm(0)
    return outcomes


def work(seed: int, cases: range) -> Counter[str]:
    """Run some cases in a worker, which SIGALRM ends if one of them hangs."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run_cases(seed, cases[:1], Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = run_cases(seed, cases, Path(folder))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert grown < MEGABYTES, f"{grown} MB were taken"
    return outcomes


def main() -> int:
    """Run all cases in workers; 1 if one crashed, hung, or met an unexpected error."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    started, outcomes, failed = time.monotonic(), Counter[str](), 0
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        chunks = [range(args.count)[first : first + 100] for first in range(0, args.count, 100)]
        futures = [pool.submit(work, args.seed, cases) for cases in chunks]
        for cases, future in zip(chunks, futures, strict=True):
            try:
                outcomes += future.result()
            except (AssertionError, BrokenProcessPool) as error:
                report.log(f"error: seed {args.seed}, {cases}: {error!r}")
                failed = 1
    for outcome, count in outcomes.most_common():
        report.log(f"{count:6d} {outcome}")
    report.log(f"{sum(outcomes.values())} files, {time.monotonic() - started:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
