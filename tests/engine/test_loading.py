"""Batches come in the order of their keys from any process, and so do errors."""

import errno
import os
import signal
import time
from collections import Counter
from typing import Any

import pytest
import torch

from ffreid.engine import loading
from ffreid.engine.distributed.group import cores
from ffreid.engine.loading import (
    NoBatch,
    StepKeys,
    evaluation_stream,
    group_by_step,
    stream,
    worker_errors,
)
from ffreid.engine.task import Plan
from ffreid.errors import UserError


def step_keys(*, batch: int = 4, batch_norm_group: int = 1, **options: int) -> StepKeys:
    defaults = {"start": 0, "total": 7, "rank": 0, "size": 1}
    plan = Plan(
        batch=batch, steps_per_epoch=3, total=7, workers=0, batch_norm_group=batch_norm_group
    )
    return StepKeys(plan=plan, **defaults | options)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_each_position_of_an_epoch_is_taken_once_in_steps_of_the_global_batch(size: int) -> None:
    shares = [list(step_keys(total=6, rank=rank, size=size)) for rank in range(size)]
    assert all(len(keys) == 4 // size for share in shares for keys in share)
    taken = Counter(key for share in shares for keys in share for key in keys)
    assert taken == Counter((epoch, position) for epoch in range(2) for position in range(12))
    steps = [[key for keys in step for key in keys] for step in zip(*shares, strict=True)]
    assert steps == list(step_keys(total=6))


@pytest.mark.parametrize("start", [0, 2, 3, 7])
def test_a_resumed_run_takes_the_remaining_steps(start: int) -> None:
    assert list(step_keys(start=start)) == list(step_keys())[start:]
    assert list(step_keys(start=start).steps) == list(range(start, 7))
    assert len(step_keys(start=start)) == 7 - start


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (
            {"size": 3},
            "a batch of 4 samples .* 3 processes",
            "a batch size that is a multiple of 3",
        ),
        ({"micro_batches": 3}, "split into 3 micro batches", "TRAIN.ACCUMULATE to one of: 1, 2, 4"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(
    options: dict[str, int], error: str, hint: str
) -> None:
    with pytest.raises(UserError, match=error) as caught:
        step_keys(**options)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("batch", "batch_norm_group", "size", "lengths"),
    [
        (4, 1, 1, [2, 2]),
        (4, 2, 1, [2, 2]),
        (4, 1, 2, [1, 1]),
        (4, 1, 1, [1] * 4),
        (10, 2, 1, [6, 4]),
    ],
)
def test_a_share_is_split_into_micro_batches_of_complete_groups(
    batch: int, batch_norm_group: int, size: int, lengths: list[int]
) -> None:
    keys = step_keys(
        batch=batch, batch_norm_group=batch_norm_group, size=size, micro_batches=len(lengths)
    )
    steps = list(group_by_step(iter(keys), keys.micro_batches))
    assert [[len(micro_batch) for micro_batch in step] for step in steps] == [lengths] * 7
    complete = list(step_keys(batch=batch, size=size))
    assert [[key for micro_batch in step for key in micro_batch] for step in steps] == complete
    assert len(keys) == 7 * len(lengths)


class Numbers:
    """Item `key` is (key, a random number from it); the keys of `bad` fail."""

    def __init__(self, length: int = 10, bad: dict[int, str] | None = None) -> None:
        self.length, self.bad = length, bad or {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Any) -> list[int]:
        number = key[0] * 100 + key[1] if isinstance(key, tuple) else key
        if number in self.bad:
            self.fail(self.bad[number], number)
        draw = torch.randint(10**6, (1,), generator=torch.Generator().manual_seed(number))
        return [number, int(draw)]

    def fail(self, how: str, number: int) -> None:
        if how == "user":
            raise UserError(f"frame {number} is broken", "copy it again")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(100)
        raise RuntimeError(f"frame {number} has a bug")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_from_any_number_of_workers(workers: int) -> None:
    data = Numbers()
    expected = [[data[key] for key in share] for share in step_keys()]
    assert list(stream(data, step_keys(), list, workers=workers)) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_of_a_worker_is_raised(workers: int) -> None:
    batches = stream(Numbers(bad={2: "user"}), [[0, 1], [2, 3]], list, workers=workers)
    assert [number for number, _ in next(batches)] == [0, 1]
    with pytest.raises(UserError) as caught:
        next(batches)
    assert caught.value.message == "frame 2 is broken"
    assert caught.value.hint == "copy it again"


@pytest.mark.parametrize(
    ("how", "workers", "error", "message"),
    [
        ("bug", 0, RuntimeError, "frame 0 has a bug"),
        ("bug", 2, RuntimeError, "frame 0 has a bug"),
        ("killed", 1, UserError, r"a data worker died: [^\n]*\nhint: .*DATA\.WORKERS"),
    ],
)
def test_a_killed_worker_is_a_user_error_and_a_bug_is_not(
    how: str, workers: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(stream(Numbers(bad={0: how}), [[0], [1]], list, workers=workers))


def test_a_worker_killed_during_a_step_is_a_user_error() -> None:
    batches = stream(Numbers(bad={1: "killed"}), [[0], [1]], list, workers=1)
    # torch raises the error wherever the main process is; it prefetches, so that is often here.
    with pytest.raises(UserError, match="a data worker died"), worker_errors():
        for _ in batches:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                pass


class Unsendable:
    """An item that cannot be sent to the main process."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


FULL = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError(FULL), r"/dev/shm is too small for the batches of data workers \(\d+ MB, "),
        (OSError(errno.EMFILE, "Too many open files"), "start or send batches: .*open files"),
        (OSError("AF_UNIX path too long"), "data workers cannot start or send .*AF_UNIX path"),
    ],
)
def test_a_batch_that_a_worker_cannot_send_is_a_user_error(error: Exception, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        list(stream([Unsendable(error)] * 2, [[0], [1]], list, workers=2))
    assert "DATA.NUM_WORKERS 0" in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["_multiprocessing.SemLock", "os.fork"])
def test_workers_that_cannot_start_are_a_user_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EAGAIN, "no more of them")

    monkeypatch.setattr(name, fail)
    with pytest.raises(UserError, match=r"data workers cannot start or send .* no more of them"):
        list(stream(Numbers(), [[0], [1]], list, workers=1))


@pytest.mark.parametrize("stop", [False, True])
def test_workers_that_hang_are_a_user_error_and_do_not_keep_a_stop_waiting(
    monkeypatch: pytest.MonkeyPatch, stop: bool
) -> None:
    monkeypatch.setattr(loading, "WAIT_TO_STOP", 0.5)
    monkeypatch.setattr(loading, "WATCH_EVERY", 0.1)
    stops: list[bool] = []
    data = Numbers(bad={1: "hangs"})
    batches = stream(data, [[0], [1]], list, workers=1, stop=lambda: stop in stops)
    next(batches)
    stops.append(True)
    monkeypatch.setattr(loading, "LONGEST_WAIT", 100 if stop else 0.5)
    with pytest.raises(NoBatch if stop else UserError) as caught:
        next(batches)
    assert stop or "the data workers have sent no batch for 1 s" in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 5])
def test_an_evaluation_takes_every_sample_once(size: int, length: int) -> None:
    batches = [
        batch
        for rank in range(size)
        for batch in evaluation_stream(
            Numbers(length), list, batch=2, workers=0, rank=rank, size=size
        )
    ]
    assert all(0 < len(batch) <= 2 for batch in batches)
    assert sorted(number for batch in batches for number, _ in batch) == list(range(length))


def test_cores_are_counted_without_cpu_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert cores() == os.cpu_count()
