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
