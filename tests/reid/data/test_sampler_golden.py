"""The orders of the identity sampler against the recorded ones."""

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
    """The indices of the recorded rank for batches of `batch` per rank."""
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
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_orders_of_every_rank_equal_the_recorded(stem: str, groups: int) -> None:
    """Larger batches drop the last incomplete one."""
    compared = 0
    for case in distributed(stem):
        assert case["epochs"]
        batch = groups * case["num_instances"]
        if case["len"] < batch:
            continue
        for epoch, expected in case["epochs"].items():
            assert len(expected) == case["len"]
            complete = len(expected) - len(expected) % batch
            assert stream(case, int(epoch), batch) == expected[:complete]
            compared += 1
    assert compared


def generators(seed: int) -> tuple[random.Random, np.random.RandomState]:
    return random.Random(seed), np.random.RandomState(seed)


@pytest.mark.parametrize("stem", SAMPLERS)
def test_an_epoch_draws_as_many_random_numbers_as_recorded(stem: str) -> None:
    for case in distributed(stem):
        last = max(map(int, case["epochs"]))
        rng, numpy_rng = generators(case["seed"] + last)
        members = members_of(case["pids"])
        shuffled_groups(members, case["num_instances"], rng=rng, numpy_rng=numpy_rng)
        assert rng.random() == case[f"python_random_after_epoch{last}"]
        assert numpy_rng.random_sample() == case[f"numpy_random_after_epoch{last}"]


@pytest.mark.parametrize("stem", SAMPLERS)
def test_orders_with_continued_generators_equal_the_recorded(stem: str) -> None:
    cases = facts("ccreid", stem)["RandomIdentitySampler"]
    assert cases
    for case in cases:
        rng, numpy_rng = generators(case["seed_python_and_numpy"])
        members = members_of(case["pids"])
        for name in ("stream1", "stream2"):
            groups = shuffled_groups(members, case["num_instances"], rng=rng, numpy_rng=numpy_rng)
            assert [index for group in groups for index in group] == case[name]
