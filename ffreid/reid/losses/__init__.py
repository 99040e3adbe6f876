"""The losses by their names in the configuration."""

from collections.abc import Callable

from torch import Tensor

from ffreid.reid.losses.classification import arcface, circle, cosface, cross_entropy
from ffreid.reid.losses.clothes import MEMORY_UPDATES, ClothesMemory, cal
from ffreid.reid.losses.pairwise import contrastive, pair_circle, pair_cosface, triplet

__all__ = ["CLASSIFICATION", "CLOTHES", "MEMORY_UPDATES", "PAIRWISE", "ClothesMemory", "cal"]

Loss = Callable[..., Tensor]
"""The mean over the batch."""

# Of scores (B, C), logits or unscaled cosines, and labels (B,), with `scale` and `margin`.
CLASSIFICATION: dict[str, Loss] = {
    "crossentropy": lambda scores, labels, **_: cross_entropy(scores, labels),
    "crossentropylabelsmooth": lambda scores, labels, **_: cross_entropy(
        scores, labels, smoothing=0.1
    ),
    "arcface": arcface,
    "cosface": cosface,
    "circle": circle,
}
# Of `pairwise.make_pairs`, with `scale` and `margin`.
PAIRWISE: dict[str, Loss] = {
    "triplet": lambda pairs, *, scale, margin: triplet(pairs, margin=margin),
    "contrastive": lambda pairs, *, scale, margin: contrastive(pairs, scale=scale),
    "cosface": pair_cosface,
    "circle": pair_circle,
}
# Of unscaled cosines (B, C) and clothes (B,), with `scale`.
CLOTHES: dict[str, Loss] = {
    "cosface": lambda cosines, clothes, *, scale: cosface(
        cosines, clothes, scale=scale, margin=0.0
    ),
    # Unscaled cosines, as in Simple-CCReID.
    "crossentropy": lambda cosines, clothes, **_: cross_entropy(cosines, clothes),
}
