"""Losses of classifiers: cross entropy, with label smoothing, and with margins.

`cosines` are (B, C), unscaled; `labels` (B,) int64; `scale` is the cosines' factor.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.precision import in_float32


@in_float32
def cross_entropy(scores: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy against targets (1 - e) one-hot + e / C (Szegedy et al., CVPR 2016)."""
    return F.cross_entropy(scores, labels, label_smoothing=smoothing)


@in_float32
def arcface(cosines: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.1) -> Tensor:
    """Cross entropy with an angle added to the true class's (Deng et al., CVPR 2019, eq. 3).

    If the sum exceeds pi, the cosine is lowered by margin x sin(margin) instead, which keeps the
    loss monotonic. `margin` is in radians.
    """
    true = cosines.gather(1, labels.unsqueeze(1))
    # The root has an infinite gradient at a cosine of 1, which rounding may exceed.
    sine = (1.0 - true.square()).clamp(min=torch.finfo(true.dtype).eps).sqrt()
    turned = true * math.cos(margin) - sine * math.sin(margin)
    lowered = true - margin * math.sin(math.pi - margin)
    hardened = torch.where(true > math.cos(math.pi - margin), turned, lowered)
    return F.cross_entropy(scale * cosines.scatter(1, labels.unsqueeze(1), hardened), labels)


@in_float32
def cosface(cosines: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.1) -> Tensor:
    """Cross entropy with the true class's cosine lowered (Wang et al., CVPR 2018, eq. 4).

    Without margin it is the clothes classifier's loss of CAL (Gu et al., CVPR 2022, eq. 2).
    """
    hardened = torch.where(_is_true(cosines, labels), cosines - margin, cosines)
    return F.cross_entropy(scale * hardened, labels)


@in_float32
def circle(cosines: Tensor, labels: Tensor, *, scale: float = 96.0, margin: float = 0.3) -> Tensor:
    """Circle loss with class labels (Sun et al., CVPR 2020, eq. 6 and 8); `margin` is m.

    The weights relu(1 + m - x) and relu(x + m) are constants.
    """
    fixed = cosines.detach()
    true = F.relu(1.0 + margin - fixed) * (cosines - (1.0 - margin))
    other = F.relu(fixed + margin) * (cosines - margin)
    return F.cross_entropy(scale * torch.where(_is_true(cosines, labels), true, other), labels)


def _is_true(scores: Tensor, labels: Tensor) -> Tensor:
    return torch.arange(scores.shape[1], device=scores.device) == labels.unsqueeze(1)
