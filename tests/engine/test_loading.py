"""Batches come in the order of their keys, from whatever process; mistakes come through."""

import os
import signal
import time
from collections import Counter
from typing import Any

import pytest
import torch

from ffreid.engine.distributed.group import cores
from ffreid.engine.loading import StepKeys, evaluation_stream, group_by_step, stream, worker_errors
from ffreid.engine.task import Plan
from ffreid.errors import UserError


def step_keys(*, batch_norm_group: int = 1, **settings: int) -> StepKeys:
    usual = {"start": 0, "total": 7, "rank": 0, "size": 1}
    plan = Plan(batch=4, steps_per_epoch=3, total=7, workers=0, batch_norm_group=batch_norm_group)
    return StepKeys(plan=plan, **usual | settings)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_position_of_every_epoch_is_taken_once(size: int) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for rank in range(size):
        keys = list(step_keys(total=6, rank=rank, size=size))
        assert [len(share) for share in keys] == [4 // size] * 6
        taken.update(key for share in keys for key in share)
    assert taken == Counter((epoch, position) for epoch in range(2) for position in range(12))


@pytest.mark.parametrize("size", [2, 4])
def test_the_shares_of_a_step_are_one_process_batch(size: int) -> None:
    shares = zip(*(step_keys(rank=rank, size=size) for rank in range(size)), strict=True)
    process_group = [[key for share in step for key in share] for step in shares]
    assert process_group == list(step_keys())


@pytest.mark.parametrize("start", [0, 2, 3, 7])
def test_resuming_takes_the_rest_of_the_steps(start: int) -> None:
    assert list(step_keys(start=start)) == list(step_keys())[start:]
    assert list(step_keys(start=start).steps) == list(range(start, 7))
    assert len(step_keys(start=start)) == 7 - start


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match=r"a batch of 4 samples .* 3 processes") as caught:
        step_keys(size=3)
    assert caught.value.hint == "use a batch size that is a multiple of 3"


@pytest.mark.parametrize(
    ("batch_norm_group", "size", "parts", "lengths"),
    [(1, 1, 3, None), (1, 1, 2, [2, 2]), (2, 1, 2, [2, 2]), (1, 2, 2, [1, 1]), (1, 1, 4, [1] * 4)],
)
def test_a_share_is_cut_in_parts_of_whole_granules(
    batch_norm_group: int, size: int, parts: int, lengths: list[int] | None
) -> None:
    """Four samples make no three parts of equal length and a shorter last one."""
    if lengths is None:
        with pytest.raises(UserError, match="cannot be split into 3 micro batches") as caught:
            step_keys(micro_batches=parts)
        assert caught.value.hint == "set TRAIN.ACCUMULATE to one of: 1, 2, 4"
        return
    keys = step_keys(batch_norm_group=batch_norm_group, size=size, micro_batches=parts)
    cut = list(group_by_step(iter(keys), keys.micro_batches))
    assert [[len(part) for part in step] for step in cut] == [lengths] * 7
    whole = list(step_keys(size=size))
    assert [[key for part in step for key in part] for step in cut] == whole
    assert len(keys) == 7 * parts


def test_a_last_part_may_be_shorter() -> None:
    plan = Plan(batch=10, steps_per_epoch=1, total=1, workers=0, batch_norm_group=2)
    keys = StepKeys(start=0, total=1, plan=plan, micro_batches=2, rank=0, size=1)
    assert [len(part) for part in keys] == [6, 4]


class Numbers:
    """Item `key` is (key, a number drawn from it); some keys go wrong."""

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
        raise RuntimeError(f"frame {number} meets a bug")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_from_any_number_of_workers(workers: int) -> None:
    data = Numbers()
    expected = [[data[key] for key in share] for share in step_keys()]
    assert list(stream(data, step_keys(), list, workers=workers)) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_comes_through_from_a_worker(workers: int) -> None:
    batches = stream(Numbers(bad={2: "user"}), [[0, 1], [2, 3]], list, workers=workers)
    assert [number for number, _ in next(batches)] == [0, 1]
    with pytest.raises(UserError) as caught:
        next(batches)
    assert caught.value.message == "frame 2 is broken"
    assert caught.value.hint == "copy it again"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bug_in_a_worker_is_not_told_as_its_death(workers: int) -> None:
    with pytest.raises(RuntimeError, match="frame 0 meets a bug"):
        list(stream(Numbers(bad={0: "bug"}), [[0], [1]], list, workers=workers))


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(UserError, match="a data worker died") as caught:
        list(stream(Numbers(bad={0: "killed"}), [[0], [1]], list, workers=1))
    assert "fewer data workers" in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_worker_killed_while_a_step_is_computed_is_told() -> None:
    batches = stream(Numbers(bad={1: "killed"}), [[0], [1]], list, workers=1)
    # torch raises in whatever the main process is at; it prefetches, so that is often this.
    with pytest.raises(UserError, match="a data worker died"), worker_errors():
        for _ in batches:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                pass


def test_other_errors_pass_where_deaths_are_told() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), worker_errors():
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 5])
def test_an_evaluation_takes_every_frame_once(size: int, length: int) -> None:
    batches = [
        batch
        for rank in range(size)
        for batch in evaluation_stream(
            Numbers(length), list, batch=2, workers=0, rank=rank, size=size
        )
    ]
    assert all(0 < len(batch) <= 2 for batch in batches)
    assert sorted(number for batch in batches for number, _ in batch) == list(range(length))


def refuse(items: list[Any]) -> list[Any]:
    raise UserError(f"{len(items)} samples do not fit together", "TEST.BATCH 1")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_stacked_is_told_as_what_it_is(workers: int) -> None:
    with pytest.raises(UserError, match="4 samples do not fit together") as caught:
        list(stream(Numbers(), step_keys(), refuse, workers=workers))
    assert caught.value.hint == "TEST.BATCH 1"


def test_cores_are_counted_where_a_process_has_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert cores() == os.cpu_count()
