"""Training order: groups of images of one identity, shuffled in every epoch.

Hermans et al. 2017 draw P identities with K images each. Simple-CCReID splits each identity's
images into groups of K and shuffles the groups: a batch can contain two groups of one identity.
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
    """Split each identity's shuffled images into groups of `instances`; shuffle the groups.

    An identity with fewer images gives one group with repetitions; incomplete groups are dropped.
    """
    groups: list[list[int]] = []
    for images in members.values():
        if len(images) < instances:
            drawn = numpy_rng.choice(images, size=instances, replace=True).tolist()
        else:
            drawn = list(images)
        rng.shuffle(drawn)
        end = len(drawn) - len(drawn) % instances
        groups += [drawn[i : i + instances] for i in range(0, end, instances)]
    rng.shuffle(groups)
    return groups


def members_of(identities: Sequence[int]) -> dict[int, list[int]]:
    """List the images of each identity, in order of first appearance."""
    members: dict[int, list[int]] = {}
    for index, identity in enumerate(identities):
        members.setdefault(identity, []).append(index)
    return members


class IdentitySampler:
    """Order of the training images, by position in an epoch.

    The shuffled groups of an epoch are dealt to the `groups` processes of Simple-CCReID, each of
    which splits its share into batches. A step is one batch of each, process 0 first, so the order
    does not depend on the number of processes here. Remainders are dropped, as there. The order
    depends on seed + epoch only. `instances`, `batch` and `groups` are DATA.NUM_INSTANCES,
    DATA.TRAIN_BATCH and TRAIN.BN_GROUPS.
    """

    def __init__(
        self, identities: Sequence[int], *, instances: int, batch: int, groups: int, seed: int
    ) -> None:
        assert min(instances, batch, groups) > 0 and batch % instances == 0
        self.members = members_of(identities)
        self.instances, self.batch, self.groups, self.seed = instances, batch, groups, seed
        available = sum(max(len(images) // instances, 1) for images in self.members.values())
        self.steps_per_epoch = available // groups * instances // batch
        if not self.steps_per_epoch:
            if not available:
                hint = "the dataset has no training images: check its folders"
            elif available < groups:
                hint = f"set TRAIN.BN_GROUPS 1 and DATA.TRAIN_BATCH {available * instances} or less"
            else:
                hint = f"set DATA.TRAIN_BATCH {available // groups * instances} or less"
            raise UserError(
                f"{len(self.members)} identities give {available} groups of {instances} images, "
                f"but a step needs {batch // instances * groups} (TRAIN.BN_GROUPS {groups} x "
                f"DATA.TRAIN_BATCH {batch})",
                hint,
            )
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def index(self, epoch: int, position: int) -> int:
        """Image at `position`, 0 to steps_per_epoch x groups x batch - 1, of `epoch`."""
        if epoch != self._epoch:
            self._order, self._epoch = self._shuffled(epoch), epoch
        return int(self._order[position])

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        shuffled = shuffled_groups(
            self.members,
            self.instances,
            rng=random.Random(self.seed + epoch),
            numpy_rng=np.random.RandomState(self.seed + epoch),
        )
        taken = self.steps_per_epoch * self.batch // self.instances
        order = np.array(shuffled[: taken * self.groups], np.int64)
        # Group g belongs to process g modulo `groups`.
        dealt = order.reshape(taken, self.groups, self.instances).swapaxes(0, 1)
        steps = dealt.reshape(self.groups, self.steps_per_epoch, self.batch).swapaxes(0, 1)
        return steps.reshape(-1)
