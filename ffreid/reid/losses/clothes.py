"""CAL: the clothes-based adversarial loss, with a classifier or a memory bank."""

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

    Each of an identity's clothes classes competes with those of other identities only; the targets
    are 1 - epsilon for the sample's class plus epsilon shared by all of its identity.

    Args:
        cosines: (B, C) of the features with each clothes class, unscaled.
        clothes: (B,) int64.
        positives: (B, C) bool, the clothes classes of the sample's identity.
        scale: the cosines' factor, 1 / temperature.
        epsilon: target weight shared by the identity's classes.
        seen: (C,) bool, the classes to use; default all.
    """
    logits = scale * cosines
    others = ~positives
    if seen is not None:
        positives, others = positives & seen, others & seen
    negatives = masked_logsumexp(logits, others).unsqueeze(1)
    log_p = F.logsigmoid(logits - negatives)
    own_class = log_p.gather(1, clothes.unsqueeze(1)).squeeze(1)
    count = positives.sum(dim=1).clamp(min=1)
    identity_mean = torch.where(positives, log_p, 0.0).sum(dim=1) / count
    return -((1.0 - epsilon) * own_class + epsilon * identity_mean).mean()


def update_one_by_one(memory: Tensor, features: Tensor, clothes: Tensor, blend: Blend) -> None:
    """Blend each sample into its row, in batch order, as the authors' code does.

    A row with k samples in the batch is updated k times.
    """
    # tolist: one synchronisation with the GPU instead of one per label.
    for feature, label in zip(features.unbind(), clothes.tolist(), strict=True):
        memory[label] = blend(memory[label], feature)


def update_by_mean(memory: Tensor, features: Tensor, clothes: Tensor, blend: Blend) -> None:
    """Blend the mean of each class's samples into its row, as intended; see `update_one_by_one`."""
    for label in torch.unique(clothes):
        memory[label] = blend(memory[label], features[clothes == label].mean(dim=0))


MEMORY_UPDATES = {"asis": update_one_by_one, "mean": update_by_mean}


class ClothesMemory(nn.Module):
    """CAL with a memory bank of each clothes class's features in place of classifier weights.

    Buffers:
        feature_memory: (C, D) float, zeros until a class is seen.
        label_memory: (C,) int64, the class's number once it is seen, -1 before.

    `momentum` is the weight of the old row, once every class was seen; for the others see `cal`
    and `MEMORY_UPDATES`.
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
        super().__init__()
        self.scale, self.epsilon, self.momentum = scale, epsilon, momentum
        self.update = MEMORY_UPDATES[update]
        self.register_buffer("feature_memory", torch.zeros(clothes, features))
        self.register_buffer("label_memory", torch.full((clothes,), -1))

    def forward(self, features: Tensor, clothes: Tensor, positives: Tensor) -> Tensor:
        """Update the memory with all processes' features (B, D), then compute the loss of these.

        Classes not yet seen count neither as positives nor as negatives; see `cal`.
        """
        self._update_memory(features.detach(), clothes)
        cosines = cosine_matrix(features, self.feature_memory)
        return cal(
            cosines, clothes, positives, scale=self.scale, epsilon=self.epsilon, seen=self._seen()
        )

    def _update_memory(self, features: Tensor, clothes: Tensor) -> None:
        all_clothes = gather_with_grad(clothes)
        full = self._seen().all()

        def blend(old: Tensor, new: Tensor) -> Tensor:
            if self.momentum == 0.0:
                return new
            return torch.where(full, self.momentum * old + (1.0 - self.momentum) * new, new)

        rows = gather_with_grad(features).to(self.feature_memory.dtype)
        self.update(self.feature_memory, rows, all_clothes, blend)
        self.label_memory[all_clothes] = all_clothes

    def _seen(self) -> Tensor:
        return self.label_memory >= 0
