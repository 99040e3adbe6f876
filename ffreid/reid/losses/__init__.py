"""The losses by their names in the configuration."""

from typing import Protocol

from torch import Tensor

from ffreid.engine.distributed.group import Gradient
from ffreid.reid.losses.classification import arcface, circle, cosface, cross_entropy
from ffreid.reid.losses.clothes import MEMORY_UPDATES, ClothesMemory, cal
from ffreid.reid.losses.pairwise import contrastive, pair_circle, pair_cosface, triplet

__all__ = ["CLASSIFICATION", "CLOTHES", "MEMORY_UPDATES", "PAIRWISE", "ClothesMemory", "cal"]

SMOOTHING = 0.1


class ClassificationLoss(Protocol):
    """Loss of scores (B, C), logits or unscaled cosines, with labels (B,)."""

    def __call__(self, scores: Tensor, labels: Tensor, /, *, scale: float, margin: float) -> Tensor:
        """Mean over the batch."""


class PairwiseLoss(Protocol):
    """Loss of features (B, D) with identities (B,)."""

    def __call__(
        self,
        features: Tensor,
        identities: Tensor,
        /,
        *,
        scale: float,
        margin: float,
        gradient: Gradient = "own",
        groups: int = 1,
    ) -> Tensor:
        """Mean over the batch."""


class ClothesLoss(Protocol):
    """Loss of unscaled cosines (B, C) with clothes (B,)."""

    def __call__(self, cosines: Tensor, clothes: Tensor, /, *, scale: float) -> Tensor:
        """Mean over the batch."""


CLASSIFICATION: dict[str, ClassificationLoss] = {
    "crossentropy": lambda scores, labels, *, scale, margin: cross_entropy(scores, labels),
    "crossentropylabelsmooth": lambda scores, labels, *, scale, margin: cross_entropy(
        scores, labels, smoothing=SMOOTHING
    ),
    "arcface": arcface,
    "cosface": cosface,
    "circle": circle,
}
PAIRWISE: dict[str, PairwiseLoss] = {
    "triplet": lambda features, identities, *, scale, margin, gradient="own", groups=1: triplet(
        features, identities, margin=margin, gradient=gradient, groups=groups
    ),
    "contrastive": lambda features, identities, *, scale, margin, gradient="own", groups=1: (
        contrastive(features, identities, scale=scale, gradient=gradient, groups=groups)
    ),
    "cosface": pair_cosface,
    "circle": pair_circle,
}
CLOTHES: dict[str, ClothesLoss] = {
    "cosface": lambda cosines, clothes, *, scale: cosface(
        cosines, clothes, scale=scale, margin=0.0
    ),
    # Unscaled cosines, as in Simple-CCReID.
    "crossentropy": lambda cosines, clothes, *, scale: cross_entropy(cosines, clothes),
}
