"""Losses of `Pairs` of features, with those of all processes; `scale` is the cosines' factor."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.distributed.group import Gradient, gather_with_grad, rank
from ffreid.reid.cosines import cosine_matrix, masked_logsumexp


class Pairs(NamedTuple):
    """Cosines (B, G) of this process's features with all, and the positive and negative pairs."""

    cosines: Tensor
    positive: Tensor
    negative: Tensor
    groups: int


def make_pairs(
    features: Tensor, identities: Tensor, *, gradient: Gradient = "own", groups: int = 1
) -> Pairs:
    """Pair features (B, D), of any length, with those of all processes by identities (B,) int64.

    A batch may consist of `groups` equal parts that represent as many processes; a loss is the mean
    of theirs. With `gradient` "own" a part's loss has gradients for the part's features only, as in
    Simple-CCReID; with "full" for all (see `gather_with_grad`).
    """
    gallery = gather_with_grad(features, gradient)
    same = identities.unsqueeze(1) == gather_with_grad(identities)
    rows = torch.arange(len(features), device=features.device) + rank() * len(features)
    columns = torch.arange(len(gallery), device=features.device)
    itself = rows.unsqueeze(1) == columns
    cosines = cosine_matrix(features, gallery)
    if gradient == "own" and groups > 1:
        part = len(features) // groups
        together = rows.unsqueeze(1) // part == columns // part
        cosines = torch.where(together, cosines, cosine_matrix(features, gallery.detach()))
    return Pairs(cosines, same & ~itself, ~same, groups)


def triplet(pairs: Pairs, *, margin: float = 0.3) -> Tensor:
    """Batch-hard triplet loss in cosine distance (Hermans et al., 2017, eq. 5).

    The hardest positive may be the sample itself, at distance 0; a sample without negatives has
    loss 0. `margin` is in cosine distance.
    """
    distances = 1.0 - pairs.cosines
    far = torch.finfo(distances.dtype).max
    positive = distances.masked_fill(pairs.negative, -far).max(dim=1).values
    negative = distances.masked_fill(~pairs.negative, far).min(dim=1).values
    return F.relu(positive - negative + margin).mean()


def contrastive(pairs: Pairs, *, scale: float = 16.0) -> Tensor:
    """Supervised contrastive loss with one positive and all negatives in each denominator.

    The mean is over a sample's positives, then over samples (van den Oord et al., 2018, eq. 4, per
    positive). Samples without positives have no term (Simple-CCReID's loss is NaN then).
    """
    scores = scale * pairs.cosines
    negatives = masked_logsumexp(scores, pairs.negative).unsqueeze(1)
    log_p = F.logsigmoid(scores - negatives)
    count = pairs.positive.sum(dim=1)
    terms = torch.where(pairs.positive, log_p, 0.0).sum(dim=1) / count.clamp(min=1)
    counted = (count > 0).view(pairs.groups, -1).sum(dim=1).clamp(min=1)
    return -(terms.view(pairs.groups, -1).sum(dim=1) / counted).mean()


def pair_cosface(pairs: Pairs, *, scale: float = 16.0, margin: float = 0.0) -> Tensor:
    """Pairwise CosFace loss (Sun et al., CVPR 2020, eq. 1 with pair labels).

    Samples without positives or negatives have loss 0; `margin` is added to negatives' cosines.
    """
    negatives = masked_logsumexp(scale * (pairs.cosines + margin), pairs.negative)
    positives = masked_logsumexp(-scale * pairs.cosines, pairs.positive)
    return F.softplus(negatives + positives).mean()


def pair_circle(pairs: Pairs, *, scale: float = 48.0, margin: float = 0.35) -> Tensor:
    """Pairwise Circle loss (Sun et al., CVPR 2020, eq. 6 and 8 with pair labels); `margin` is m.

    The weights relu(c + m) and relu(1 + m - c) are constants. Samples without positives or
    negatives have loss 0.
    """
    cosines, fixed = pairs.cosines, pairs.cosines.detach()
    negative = scale * F.relu(fixed + margin) * (cosines - margin)
    positive = scale * F.relu(1.0 + margin - fixed) * (1.0 - margin - cosines)
    total = masked_logsumexp(negative, pairs.negative) + masked_logsumexp(positive, pairs.positive)
    return F.softplus(total).mean()
