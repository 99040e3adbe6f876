"""Training order: groups of pictures of one identity, shuffled anew in every epoch.

Hermans et al. 2017 draw P identities with K pictures each. The original cuts every identity's
pictures in groups of K and shuffles the groups: a batch can hold two groups of one identity.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ffreid.errors import UserError


def shuffled_groups(
    members: Mapping[int, Sequence[int]],
    instances: int,
    *,
    rng: random.Random,
    numpy_rng: np.random.RandomState,
) -> list[list[int]]:
    """Cut each identity's pictures, shuffled, in groups of `instances`; shuffle the groups.

    An identity of fewer gives one group with repetitions; pictures that fill no group are left out.

    Args:
        members: the pictures of every identity.
        instances: pictures a group.
        chance: shuffles.
        numbers: draws the repetitions, from numpy's legacy stream as recorded.
    """
    groups: list[list[int]] = []
    for mine in members.values():
        if len(mine) < instances:
            drawn = numpy_rng.choice(mine, size=instances, replace=True).tolist()
        else:
            drawn = list(mine)
        rng.shuffle(drawn)
        whole = len(drawn) - len(drawn) % instances
        groups += [drawn[i : i + instances] for i in range(0, whole, instances)]
    rng.shuffle(groups)
    return groups


def members_of(identities: Sequence[int]) -> dict[int, list[int]]:
    """List the pictures of every identity, identities in order of first appearance."""
    members: dict[int, list[int]] = {}
    for index, identity in enumerate(identities):
        members.setdefault(identity, []).append(index)
    return members


class IdentitySampler:
    """Says which picture stands at a position of an epoch.

    An epoch's shuffled groups are dealt out in turn to the original's `groups` processes, and each
    cuts its share in batches. A step is one batch of each, process 0's first, so a position means
    the same however many processes there are here. Leftovers are dropped as in the original. Its
    order derives from seed + epoch and touches no global generator.

    Args:
        identities: of the pictures.
        instances: pictures a group (DATA.NUM_INSTANCES).
        batch: pictures a batch-norm group (DATA.TRAIN_BATCH).
        groups: batch-norm groups a step (TRAIN.BN_GROUPS).
        seed: of the order.

    Attributes:
        members: pictures of every identity.
        steps_per_epoch: steps.

    Raises:
        UserError: the batch holds no whole number of groups, or the pictures fill no step.
    """

    def __init__(
        self, identities: Sequence[int], *, instances: int, batch: int, groups: int, seed: int
    ) -> None:
        if min(instances, batch, groups) < 1:
            raise UserError(
                f"DATA.NUM_INSTANCES {instances}, DATA.TRAIN_BATCH {batch} and "
                f"TRAIN.BN_GROUPS {groups} must be positive",
                "set them to 1 or more",
            )
        if batch % instances:
            raise UserError(
                f"DATA.TRAIN_BATCH {batch} is not a multiple of DATA.NUM_INSTANCES {instances}",
                f"set DATA.TRAIN_BATCH {max(batch // instances, 1) * instances}, or another "
                "DATA.NUM_INSTANCES",
            )
        self.members = members_of(identities)
        self.instances, self.batch, self.groups, self.seed = instances, batch, groups, seed
        whole = sum(max(len(mine) // instances, 1) for mine in self.members.values())
        self.steps_per_epoch = whole // groups * instances // batch
        if not self.steps_per_epoch:
            needed = batch // instances * groups
            raise UserError(
                f"{len(self.members)} identities give {whole} groups of {instances} pictures, and "
                f"a step takes {needed} (TRAIN.BN_GROUPS {groups} x DATA.TRAIN_BATCH {batch})",
                self._remedy(whole),
            )
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def _remedy(self, whole: int) -> str:
        if not whole:
            return "the data set has no training pictures: check its folders"
        if whole < self.groups:
            return f"set TRAIN.BN_GROUPS 1 and DATA.TRAIN_BATCH {whole * self.instances} or less"
        return f"set DATA.TRAIN_BATCH {whole // self.groups * self.instances} or less"

    def index(self, epoch: int, position: int) -> int:
        """Give the picture at `position`, 0 … steps_per_epoch x groups x batch - 1, of `epoch`."""
        if epoch != self._epoch:
            self._order, self._epoch = self._shuffled(epoch), epoch
        return int(self._order[position])

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        rounds = shuffled_groups(
            self.members,
            self.instances,
            rng=random.Random(self.seed + epoch),
            numpy_rng=np.random.RandomState(self.seed + epoch),
        )
        taken = self.steps_per_epoch * self.batch // self.instances
        order = np.array(rounds[: taken * self.groups], np.int64)
        # Group g goes to process g modulo `groups`.
        dealt = order.reshape(taken, self.groups, self.instances).swapaxes(0, 1)
        steps = dealt.reshape(self.groups, self.steps_per_epoch, self.batch).swapaxes(0, 1)
        return steps.reshape(-1)
