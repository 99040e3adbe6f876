"""Losses of pairs of features, against the gallery gathered from all processes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.dist import Gradient, gather_with_grad, rank
from ffreid.reid.losses.precision import cosine_matrix, masked_logsumexp


def triplet(
    features: Tensor, identities: Tensor, *, margin: float = 0.3, gradient: Gradient = "own"
) -> Tensor:
    """Batch-hard triplet loss in cosine distance (Hermans et al., 2017, eq. 5).

    The hardest positive may be the sample itself, at distance 0; without negatives a sample's
    loss is 0.

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        margin: in cosine distance.
        gradient: of the gathered gallery, see `gather_with_grad`.
    """
    pairs = _pairs(features, identities, gradient)
    distances = 1.0 - pairs.cosines
    far = torch.finfo(distances.dtype).max
    positive = distances.masked_fill(pairs.negative, -far).max(dim=1).values
    negative = distances.masked_fill(~pairs.negative, far).min(dim=1).values
    return F.relu(positive - negative + margin).mean()


def contrastive(
    features: Tensor, identities: Tensor, *, scale: float = 16.0, gradient: Gradient = "own"
) -> Tensor:
    """Supervised contrastive loss whose denominators hold one positive and all negatives.

    Samples whose identity appears once have no term (the original's loss is not a number then).
    The mean is over a sample's positives, then over samples (van den Oord et al., 2018, eq. 4,
    per positive).

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        scale: the cosines' factor.
        gradient: of the gathered gallery, see `gather_with_grad`.
    """
    pairs = _pairs(features, identities, gradient)
    scores = scale * pairs.cosines
    negatives = masked_logsumexp(scores, pairs.negative).unsqueeze(1)
    log_p = F.logsigmoid(scores - negatives)
    count = pairs.positive.sum(dim=1)
    terms = torch.where(pairs.positive, log_p, 0.0).sum(dim=1) / count.clamp(min=1)
    return -terms.sum() / (count > 0).sum().clamp(min=1)


def pair_cosface(
    features: Tensor,
    identities: Tensor,
    *,
    scale: float = 16.0,
    margin: float = 0.0,
    gradient: Gradient = "own",
) -> Tensor:
    """Pairwise CosFace loss (Sun et al., CVPR 2020, eq. 1 with pair labels).

    Samples without positives or negatives have a loss of 0.

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        scale: the cosines' factor.
        margin: what is added to the negatives' cosines.
        gradient: of the gathered gallery, see `gather_with_grad`.
    """
    pairs = _pairs(features, identities, gradient)
    negatives = masked_logsumexp(scale * (pairs.cosines + margin), pairs.negative)
    positives = masked_logsumexp(-scale * pairs.cosines, pairs.positive)
    return F.softplus(negatives + positives).mean()


def pair_circle(
    features: Tensor,
    identities: Tensor,
    *,
    scale: float = 48.0,
    margin: float = 0.35,
    gradient: Gradient = "own",
) -> Tensor:
    """Pairwise Circle loss (Sun et al., CVPR 2020, eq. 6 and 8 with pair labels).

    The weights relu(c + m) and relu(1 + m - c) carry no gradient. Samples without positives or
    negatives have a loss of 0.

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        scale: the cosines' factor.
        margin: relaxation m.
        gradient: of the gathered gallery, see `gather_with_grad`.
    """
    pairs = _pairs(features, identities, gradient)
    cosines, fixed = pairs.cosines, pairs.cosines.detach()
    negative = scale * F.relu(fixed + margin) * (cosines - margin)
    positive = scale * F.relu(1.0 + margin - fixed) * (1.0 - margin - cosines)
    total = masked_logsumexp(negative, pairs.negative) + masked_logsumexp(positive, pairs.positive)
    return F.softplus(total).mean()


def _pairs(features: Tensor, identities: Tensor, gradient: Gradient) -> "_Pairs":
    gallery = gather_with_grad(features, gradient)
    same = identities.unsqueeze(1) == gather_with_grad(identities)
    own = torch.arange(len(features), device=features.device) + rank() * len(features)
    itself = own.unsqueeze(1) == torch.arange(len(gallery), device=features.device)
    return _Pairs(cosine_matrix(features, gallery), positive=same & ~itself, negative=~same)


@dataclass(frozen=True)
class _Pairs:
    """Cosines (B, G) of the own rows with all processes' rows, and which pairs count as what."""

    cosines: Tensor
    positive: Tensor
    negative: Tensor
