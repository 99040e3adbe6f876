"""The order of training images, also recorded values for a clone without the recordings."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.reid.data.sampler import IdentitySampler

# Identity 3 has too few images for a group, identity 0 one more than two groups.
IDENTITIES = [2, 0, 1, 3, 2, 0, 1, 2, 0, 1, 0, 2, 0, 3, 1, 0, 0, 0, 0]


def make_sampler(identities: Sequence[int] = IDENTITIES, **settings: int) -> IdentitySampler:
    defaults = {"instances": 4, "batch": 4, "groups": 1, "seed": 1}
    return IdentitySampler(identities, **defaults | settings)


def order(sampler: IdentitySampler, epoch: int = 0) -> list[int]:
    length = sampler.steps_per_epoch * sampler.batch * sampler.groups
    return [sampler.index(epoch, position) for position in range(length)]


def test_orders_equal_the_recorded_also_when_requested_in_reverse() -> None:
    sampler = make_sampler([2, 0, 1, 3, 2, 4, 4, 4, 3, 1, 1, 0])
    states = random.getstate(), str(np.random.get_state())
    assert [order(sampler, epoch) for epoch in (1, 0)] == [
        [4, 4, 0, 0, 11, 11, 1, 1, 8, 3, 8, 8, 10, 2, 9, 9, 5, 5, 5, 6],
        [3, 3, 8, 8, 11, 11, 11, 11, 2, 9, 2, 2, 0, 4, 0, 4, 7, 5, 7, 6],
    ]
    assert (random.getstate(), str(np.random.get_state())) == states
    assert order(make_sampler(seed=2)) != order(make_sampler())


@pytest.mark.parametrize("instances", [1, 2, 4])
def test_each_group_has_one_identity(instances: int) -> None:
    identities = [IDENTITIES[index] for index in order(make_sampler(instances=instances))]
    for start in range(0, len(identities), instances):
        assert len(set(identities[start : start + instances])) == 1
    assert set(identities) == {0, 1, 2, 3}


def test_images_are_repeated_only_for_identities_with_too_few() -> None:
    unique = [index for index in order(make_sampler()) if IDENTITIES[index] != 3]
    assert len(unique) == len(set(unique))
    assert sorted(order(make_sampler([0] * 8, batch=8))) == list(range(8))


def test_a_step_of_two_groups_is_the_batch_of_rank_0_then_that_of_rank_1() -> None:
    one = order(make_sampler(batch=4, groups=1))
    batches = [one[start : start + 4] for start in range(0, len(one), 4)]
    two = order(make_sampler(batch=8, groups=2))
    assert two == [*batches[0], *batches[2], *batches[1], *batches[3]]


@pytest.mark.parametrize(("batch", "groups", "steps"), [(4, 1, 5), (4, 2, 2), (8, 1, 2), (8, 2, 1)])
def test_incomplete_steps_are_dropped(batch: int, groups: int, steps: int) -> None:
    assert make_sampler(batch=batch, groups=groups).steps_per_epoch == steps


@pytest.mark.parametrize(
    ("identities", "batch", "groups", "message", "hint"),
    [
        # The hint is valid: (8, 2) above has a step.
        (IDENTITIES, 12, 2, "4 identities give 5 groups of 4 .* needs 6 ", "DATA.TRAIN_BATCH 8 "),
        (IDENTITIES, 4, 6, "TRAIN.BN_GROUPS 6", "TRAIN.BN_GROUPS 1 and DATA.TRAIN_BATCH 20 or"),
        ([], 4, 1, "0 identities", "no training images"),
    ],
)
def test_too_few_images_for_a_step_are_an_error(
    identities: list[int], batch: int, groups: int, message: str, hint: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_sampler(identities, batch=batch, groups=groups)
    assert hint in error.value.hint
