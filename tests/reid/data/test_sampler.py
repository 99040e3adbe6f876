"""The order of training; recorded values for a clone without the recordings."""

import pickle
import random
from collections.abc import Sequence

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.reid.data.sampler import IdentitySampler

# Identity 3 has too few pictures for a group, identity 0 one more than two groups.
IDENTITIES = [2, 0, 1, 3, 2, 0, 1, 2, 0, 1, 0, 2, 0, 3, 1, 0, 0, 0, 0]


def sampler(identities: Sequence[int] = IDENTITIES, **settings: int) -> IdentitySampler:
    usual = {"instances": 4, "batch": 4, "groups": 1, "seed": 1}
    return IdentitySampler(identities, **usual | settings)


def epoch_of(made: IdentitySampler, epoch: int = 0) -> list[int]:
    length = made.steps_per_epoch * made.batch * made.groups
    return [made.index(epoch, position) for position in range(length)]


@pytest.mark.parametrize(
    ("epoch", "stream"),
    [
        (0, [3, 3, 8, 8, 11, 11, 11, 11, 2, 9, 2, 2, 0, 4, 0, 4, 7, 5, 7, 6]),
        (1, [4, 4, 0, 0, 11, 11, 1, 1, 8, 3, 8, 8, 10, 2, 9, 9, 5, 5, 5, 6]),
    ],
)
def test_the_stream_is_the_recorded_one(epoch: int, stream: list[int]) -> None:
    assert epoch_of(sampler([2, 0, 1, 3, 2, 4, 4, 4, 3, 1, 1, 0]), epoch) == stream


@pytest.mark.parametrize("instances", [1, 2, 4])
def test_every_group_shows_one_identity(instances: int) -> None:
    order = epoch_of(sampler(instances=instances, batch=4))
    shown = [IDENTITIES[index] for index in order]
    for start in range(0, len(shown), instances):
        assert len(set(shown[start : start + instances])) == 1


def test_a_batch_may_hold_two_groups_of_one_person() -> None:
    order = epoch_of(sampler([0] * 8, batch=8))
    assert sorted(order) == list(range(8))


def test_every_picture_comes_at_most_once_unless_its_identity_has_too_few() -> None:
    order = [index for index in epoch_of(sampler()) if IDENTITIES[index] != 3]
    assert len(order) == len(set(order))


def test_every_identity_is_shown() -> None:
    assert {IDENTITIES[index] for index in epoch_of(sampler())} == {0, 1, 2, 3}


def test_a_step_of_two_groups_is_rank_0s_batch_and_then_rank_1s() -> None:
    one = epoch_of(sampler(batch=4, groups=1))
    quads = [one[i : i + 4] for i in range(0, len(one), 4)]
    assert len(quads) == 5
    two = epoch_of(sampler(batch=8, groups=2))
    assert two == [*quads[0], *quads[2], *quads[1], *quads[3]]


def test_steps_are_those_that_all_groups_fill() -> None:
    assert sampler().steps_per_epoch == 5
    assert sampler(groups=2).steps_per_epoch == 2
    assert sampler(batch=8).steps_per_epoch == 2
    assert sampler(batch=8, groups=2).steps_per_epoch == 1


@pytest.mark.parametrize(("seed", "epoch"), [(1, 1), (2, 0)])
def test_another_epoch_or_seed_gives_another_order(seed: int, epoch: int) -> None:
    assert epoch_of(sampler(seed=seed), epoch) != epoch_of(sampler())


def test_epochs_can_be_asked_for_in_any_order() -> None:
    made = sampler()
    first, second = epoch_of(made, 0), epoch_of(made, 1)
    assert [epoch_of(made, epoch) for epoch in (1, 0)] == [second, first]


def test_global_generators_are_left_alone() -> None:
    python, legacy = random.getstate(), np.random.get_state(legacy=False)["state"]["key"]
    epoch_of(sampler())
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], legacy)


def test_it_travels_to_worker_processes() -> None:
    made = sampler()
    assert epoch_of(pickle.loads(pickle.dumps(made))) == epoch_of(made)


def test_too_few_pictures_for_a_step_say_how_many_groups_there_are() -> None:
    with pytest.raises(UserError, match=r"4 identities give 5 groups of 4 .* needs 6 ") as error:
        sampler(batch=12, groups=2)
    assert error.value.hint == "set DATA.TRAIN_BATCH 8 or less"


def test_what_the_error_says_to_set_works() -> None:
    assert sampler(batch=8, groups=2).steps_per_epoch == 1


def test_fewer_picture_groups_than_norm_groups_say_to_set_one() -> None:
    with pytest.raises(UserError, match=r"TRAIN.BN_GROUPS 6") as error:
        sampler(batch=4, groups=6)
    assert error.value.hint == "set TRAIN.BN_GROUPS 1 and DATA.TRAIN_BATCH 20 or less"


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(UserError, match="0 identities") as error:
        sampler([])
    assert "no training images" in error.value.hint
