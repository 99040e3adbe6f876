"""CAL: the adversarial loss that makes a person's clothes indistinguishable."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.engine.distributed.group import gather_with_grad
from ffreid.engine.precision import in_float32
from ffreid.reid.cosines import cosine_matrix, masked_logsumexp

Blend = Callable[[Tensor, Tensor], Tensor]


@in_float32
def cal(
    cosines: Tensor,
    clothes: Tensor,
    positives: Tensor,
    *,
    scale: float = 16.0,
    epsilon: float = 0.1,
    seen: Tensor | None = None,
) -> Tensor:
    """Clothes-based adversarial loss (Gu et al., CVPR 2022, eq. 3 and 5), as a mean over samples.

    Each of the identity's clothes competes with the other identities' clothes only; the targets
    are 1 - epsilon for the worn clothes plus epsilon shared by all of the identity's.

    Args:
        cosines: (B, C) of the features with each clothes class, unscaled.
        clothes: (B,) int64, worn.
        positives: (B, C) bool, the clothes of the sample's identity.
        scale: the cosines' factor, 1 / temperature.
        epsilon: share of the targets that all the identity's clothes get.
        seen: (C,) bool, the classes that count at all; every one where it is not given.
    """
    logits = scale * cosines
    rivals = ~positives
    if seen is not None:
        positives, rivals = positives & seen, rivals & seen
    negatives = masked_logsumexp(logits, rivals).unsqueeze(1)
    log_p = F.logsigmoid(logits - negatives)
    worn = log_p.gather(1, clothes.unsqueeze(1)).squeeze(1)
    owned = torch.where(positives, log_p, 0.0).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
    return -((1.0 - epsilon) * worn + epsilon * owned).mean()


def update_one_by_one(memory: Tensor, features: Tensor, clothes: Tensor, blend: Blend) -> None:
    """Blend each sample into its row, in batch order: what the authors' code does.

    A momentum m acts as m^k on a row that k samples of the batch share.

    Args:
        memory: (C, D), written.
        features: (B, D).
        clothes: (B,) int64.
        blend: of old rows and features.
    """
    # Numbers at once: each label of a GPU would be waited for.
    for feature, label in zip(features.unbind(), clothes.tolist(), strict=True):
        memory[label] = blend(memory[label], feature)


def update_by_mean(memory: Tensor, features: Tensor, clothes: Tensor, blend: Blend) -> None:
    """Blend the mean of the batch's samples of each class into its row: what was intended.

    Args:
        memory: (C, D), written.
        features: (B, D).
        clothes: (B,) int64.
        blend: of an old row and a mean.
    """
    for label in torch.unique(clothes):
        memory[label] = blend(memory[label], features[clothes == label].mean(dim=0))


MEMORY_UPDATES = {"asis": update_one_by_one, "mean": update_by_mean}


class ClothesMemory(nn.Module):
    """CAL against remembered features of each clothes class in place of a classifier's weights.

    Buffers:
        feature_memory: (C, D) float, zeros until a class is seen.
        label_memory: (C,) int64, the class's own number once it is seen, -1 before.
    """

    feature_memory: Tensor
    label_memory: Tensor

    def __init__(
        self,
        clothes: int,
        features: int,
        *,
        scale: float = 16.0,
        epsilon: float = 0.1,
        momentum: float = 0.0,
        update: str = "asis",
    ) -> None:
        """Start empty.

        Args:
            clothes: number of classes C.
            features: length D.
            scale: see `cal`.
            epsilon: see `cal`.
            momentum: share of the old row that stays, once every class was seen.
            update: of `MEMORY_UPDATES`.
        """
        super().__init__()
        self.scale, self.epsilon, self.momentum = scale, epsilon, momentum
        self.update = MEMORY_UPDATES[update]
        self.register_buffer("feature_memory", torch.zeros(clothes, features))
        self.register_buffer("label_memory", torch.full((clothes,), -1))

    def forward(self, features: Tensor, clothes: Tensor, positives: Tensor) -> Tensor:
        """Remember all processes' features, then give the loss of these.

        Until every class was seen, those not yet seen count neither as positives nor as negatives.

        Args:
            features: (B, D), of any length.
            clothes: (B,) int64, worn.
            positives: (B, C) bool, the clothes of the sample's identity; not changed.
        """
        self._remember(features.detach(), clothes)
        cosines = cosine_matrix(features, self.feature_memory)
        return cal(
            cosines, clothes, positives, scale=self.scale, epsilon=self.epsilon, seen=self._seen()
        )

    def _remember(self, features: Tensor, clothes: Tensor) -> None:
        everyones = gather_with_grad(clothes)
        full = self._seen().all()

        def blend(old: Tensor, new: Tensor) -> Tensor:
            if self.momentum == 0.0:
                return new
            return torch.where(full, self.momentum * old + (1.0 - self.momentum) * new, new)

        rows = gather_with_grad(features).to(self.feature_memory.dtype)
        self.update(self.feature_memory, rows, everyones, blend)
        self.label_memory[everyones] = everyones

    def _seen(self) -> Tensor:
        return self.label_memory >= 0
