"""Cosines of all pairs, and a masked reduction."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.precision import in_float32


@in_float32
def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines (B, G) of all pairs of (B, D) and (G, D), at least in float32."""
    return F.normalize(rows, dim=1) @ F.normalize(columns, dim=1).T


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Log of the sum of exponentials (B,) over each row's entries of (B, G) where `mask` is true.

    A row without any gives the type's minimum, with gradient 0: differences of infinities are
    avoided.
    """
    return values.masked_fill(~mask, torch.finfo(values.dtype).min).logsumexp(dim=1)
