"""Losses of pairs of features, against the gallery gathered from all processes.

A batch may hold `groups` equal parts that stand for as many processes: each part's loss is its own
and the batch's their mean. With the gradient "own" a part's loss reaches its own features only,
the others' are constants, as the authors train; with "full" it reaches the whole gallery.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.distributed.group import Gradient, gather_with_grad, rank
from ffreid.reid.cosines import cosine_matrix, masked_logsumexp


def triplet(
    features: Tensor,
    identities: Tensor,
    *,
    margin: float = 0.3,
    gradient: Gradient = "own",
    groups: int = 1,
) -> Tensor:
    """Batch-hard triplet loss in cosine distance (Hermans et al., 2017, eq. 5).

    The hardest positive may be the sample itself, at distance 0; without negatives a sample's
    loss is 0.

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        margin: in cosine distance.
        gradient: of the gathered gallery, see `gather_with_grad`.
        groups: parts of the batch, see above.
    """
    pairs = _pairs(features, identities, gradient, groups)
    distances = 1.0 - pairs.cosines
    far = torch.finfo(distances.dtype).max
    positive = distances.masked_fill(pairs.negative, -far).max(dim=1).values
    negative = distances.masked_fill(~pairs.negative, far).min(dim=1).values
    return F.relu(positive - negative + margin).mean()


def contrastive(
    features: Tensor,
    identities: Tensor,
    *,
    scale: float = 16.0,
    gradient: Gradient = "own",
    groups: int = 1,
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
        groups: parts of the batch, see above.
    """
    pairs = _pairs(features, identities, gradient, groups)
    scores = scale * pairs.cosines
    negatives = masked_logsumexp(scores, pairs.negative).unsqueeze(1)
    log_p = F.logsigmoid(scores - negatives)
    count = pairs.positive.sum(dim=1)
    terms = torch.where(pairs.positive, log_p, 0.0).sum(dim=1) / count.clamp(min=1)
    counted = (count > 0).view(groups, -1).sum(dim=1).clamp(min=1)
    return -(terms.view(groups, -1).sum(dim=1) / counted).mean()


def pair_cosface(
    features: Tensor,
    identities: Tensor,
    *,
    scale: float = 16.0,
    margin: float = 0.0,
    gradient: Gradient = "own",
    groups: int = 1,
) -> Tensor:
    """Pairwise CosFace loss (Sun et al., CVPR 2020, eq. 1 with pair labels).

    Samples without positives or negatives have a loss of 0.

    Args:
        features: (B, D), of any length.
        identities: (B,) int64.
        scale: the cosines' factor.
        margin: what is added to the negatives' cosines.
        gradient: of the gathered gallery, see `gather_with_grad`.
        groups: parts of the batch, see above.
    """
    pairs = _pairs(features, identities, gradient, groups)
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
    groups: int = 1,
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
        groups: parts of the batch, see above.
    """
    pairs = _pairs(features, identities, gradient, groups)
    cosines, fixed = pairs.cosines, pairs.cosines.detach()
    negative = scale * F.relu(fixed + margin) * (cosines - margin)
    positive = scale * F.relu(1.0 + margin - fixed) * (1.0 - margin - cosines)
    total = masked_logsumexp(negative, pairs.negative) + masked_logsumexp(positive, pairs.positive)
    return F.softplus(total).mean()


def _pairs(features: Tensor, identities: Tensor, gradient: Gradient, groups: int) -> "_Pairs":
    gallery = gather_with_grad(features, gradient)
    same = identities.unsqueeze(1) == gather_with_grad(identities)
    own = torch.arange(len(features), device=features.device) + rank() * len(features)
    everyone = torch.arange(len(gallery), device=features.device)
    itself = own.unsqueeze(1) == everyone
    cosines = cosine_matrix(features, gallery)
    if gradient == "own" and groups > 1:
        part = len(features) // groups
        together = own.unsqueeze(1) // part == everyone // part
        cosines = torch.where(together, cosines, cosine_matrix(features, gallery.detach()))
    return _Pairs(cosines, positive=same & ~itself, negative=~same)


@dataclass(frozen=True)
class _Pairs:
    """Cosines (B, G) of the own rows with all processes' rows, and which pairs count as what."""

    cosines: Tensor
    positive: Tensor
    negative: Tensor
