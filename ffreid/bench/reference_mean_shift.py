"""Reference mean shift: one fit at a time, through an N x N x D table of differences."""

import torch
from torch import Tensor


def reference_mean_shift(
    points: Tensor, *, bandwidth: float, max_iterations: int = 300
) -> tuple[Tensor, Tensor, int]:
    """Fit one set of points.

    Args:
        points: (N, D) floats, N at least 1.
        bandwidth: width of the Gaussian and of the neighbourhood, in the points' unit.
        max_iterations: at most one update more than this is made.

    Returns:
        (D,) densest place, (N,) bool points that ended within `bandwidth` of it, number of updates.
    """
    moved, updates = points, 0
    while True:
        distances = (moved[:, None] - moved[None]).norm(dim=2)
        weights = torch.exp(-0.5 * (distances / bandwidth) ** 2)
        means = (weights[:, :, None] * moved[None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
        largest_move = (means - moved).norm(dim=1).max()
        moved = means
        updates += 1
        if largest_move < 1e-3 * bandwidth or updates > max_iterations:
            break
    near = (moved[:, None] - moved[None]).norm(dim=2) < bandwidth
    densest = int(near.sum(dim=1).argmax())
    return moved[densest], near[densest], updates
