"""The order of training; recorded values for a clone without the recordings."""

from collections.abc import Sequence

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
