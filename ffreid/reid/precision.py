"""What keeps the losses finite in half precision: wide arithmetic and masked reductions."""

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def widened(values: Tensor) -> Tensor:
    """Give half precision as float32, anything else as it is."""
    return values.float() if values.dtype in HALF else values


def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines of all pairs, never in half precision, inside an autocast region neither.

    Args:
        rows: (B, D), of any length.
        columns: (G, D), of any length.

    Returns:
        (B, G).
    """
    with torch.autocast(rows.device.type, enabled=False):
        return F.normalize(widened(rows), dim=1) @ F.normalize(widened(columns), dim=1).T


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
