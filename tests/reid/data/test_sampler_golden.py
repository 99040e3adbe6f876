"""The identity sampler's streams as recorded from the original."""

import random
from typing import Any

import numpy as np
import pytest

from ffreid.reid.data.sampler import IdentitySampler, members_of, shuffled_groups
from tests.golden import facts, recordings

pytestmark = pytest.mark.golden
SAMPLERS = recordings("ccreid", "samplers.json")


def distributed(stem: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = facts("ccreid", stem)["DistributedRandomIdentitySampler"]
    filled = [case for case in cases if case["len"]]
    assert filled
    return filled


def stream(case: dict[str, Any], epoch: int, batch: int) -> list[int]:
    """What falls to the recorded rank when every rank takes batches of `batch`."""
    world, rank = case["world"], case["rank"]
    sampler = IdentitySampler(
        case["pids"], instances=case["num_instances"], batch=batch, groups=world, seed=case["seed"]
    )
    return [
        sampler.index(epoch, (step * world + rank) * batch + offset)
        for step in range(sampler.steps_per_epoch)
        for offset in range(batch)
    ]


@pytest.mark.parametrize("stem", SAMPLERS)
def test_every_rank_of_every_world_has_its_recorded_stream_in_every_epoch(stem: str) -> None:
    for case in distributed(stem):
        assert case["epochs"]
        for epoch, expected in case["epochs"].items():
            assert len(expected) == case["len"]
            assert stream(case, int(epoch), case["num_instances"]) == expected


@pytest.mark.parametrize("stem", SAMPLERS)
@pytest.mark.parametrize("groups", [2, 3])
def test_larger_batches_keep_the_stream_and_drop_the_last_incomplete_one(
    stem: str, groups: int
) -> None:
    compared = 0
    for case in distributed(stem):
        batch = groups * case["num_instances"]
        if case["len"] < batch:
            continue
        for epoch, expected in case["epochs"].items():
            whole = len(expected) - len(expected) % batch
            assert stream(case, int(epoch), batch) == expected[:whole]
            compared += 1
    assert compared


@pytest.mark.parametrize("stem", SAMPLERS)
def test_an_epoch_draws_as_many_numbers_as_recorded(stem: str) -> None:
    for case in distributed(stem):
        last = max(map(int, case["epochs"]))
        rng = random.Random(case["seed"] + last)
        numpy_rng = np.random.RandomState(case["seed"] + last)
        shuffled_groups(
            members_of(case["pids"]), case["num_instances"], rng=rng, numpy_rng=numpy_rng
        )
        assert rng.random() == case[f"python_random_after_epoch{last}"]
        assert numpy_rng.random_sample() == case[f"numpy_random_after_epoch{last}"]


@pytest.mark.parametrize("stem", SAMPLERS)
def test_generators_that_go_on_give_the_recorded_second_stream(stem: str) -> None:
    cases = facts("ccreid", stem)["RandomIdentitySampler"]
    assert cases
    for case in cases:
        rng = random.Random(case["seed_python_and_numpy"])
        numpy_rng = np.random.RandomState(case["seed_python_and_numpy"])
        for name in ("stream1", "stream2"):
            groups = shuffled_groups(
                members_of(case["pids"]), case["num_instances"], rng=rng, numpy_rng=numpy_rng
            )
            assert [index for group in groups for index in group] == case[name]
