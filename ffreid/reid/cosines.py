"""Cosines of all pairs, and reductions over some of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.precision import in_float32


@in_float32
def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines of all pairs, never in half precision.

    Args:
        rows: (B, D), of any length.
        columns: (G, D), of any length.

    Returns:
        (B, G).
    """
    return F.normalize(rows, dim=1) @ F.normalize(columns, dim=1).T


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Log of the sum of exponentials over each row's masked entries.

    A row without any gives the type's lowest number, whose gradient is 0: no differences of
    infinities arise.

    Args:
        values: (B, G), float32 or float64.
        mask: (B, G) bool, true where an entry counts.

    Returns:
        (B,).
    """
    return values.masked_fill(~mask, torch.finfo(values.dtype).min).logsumexp(dim=1)
