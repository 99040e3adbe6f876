"""Mean shift without blurring: many fits at once, each from one of its votes to a mode.

The votes stay where they are. Of `SEEDS` of a fit's votes the one in the densest place moves to the
weighted mean of all votes around it until it stops (Comaniciu and Meer 2002). A fit of N votes
takes (`SEEDS` + updates) N kernel values instead of updates N².
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SEEDS = 32
"""Votes of a fit, evenly spread over its list, whose surroundings are compared."""
KERNEL = 2.0
"""Standard deviation of the kernel in bandwidths; blurring joins votes as far apart as this."""
REACH = 3.0
"""Bandwidths around the mode in which votes are inliers."""
MOVE_CONVERGED = 1e-3
"""A fit has converged when it moves less than this many bandwidths."""
MAX_UPDATES = 100

# Kernel values computed at once: about a core's second-level cache, and plenty for a GPU.
_VALUES_ON_CPU = 1 << 18
_VALUES_ON_GPU = 1 << 26


def find_modes(votes: Sequence[Tensor], *, bandwidth: float) -> list[tuple[Tensor, Tensor]]:
    """Find the mode near the densest seed of every fit.

    Args:
        votes: of each object (F, N, 3), with the same number of fits F and any number of votes
            N > 0; finite floats of any precision and unit.
        bandwidth: in the votes' unit.

    Returns:
        For each object (F, 3) modes and (F, N) bool votes within `REACH` bandwidths of them, or the
        nearest one.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    batch: list[int] = []
    # Objects of similar size share a batch, whose rows are as long as its first.
    for index in sorted(range(len(votes)), key=lambda index: -votes[index].shape[1]):
        longest = votes[(batch or [index])[0]]
        values = (len(batch) + 1) * longest.shape[:2].numel() * SEEDS
        if batch and values > (_VALUES_ON_GPU if longest.is_cuda else _VALUES_ON_CPU):
            found |= zip(batch, _batch_modes([votes[i] for i in batch], bandwidth), strict=True)
            batch = []
        batch.append(index)
    if batch:
        found |= zip(batch, _batch_modes([votes[i] for i in batch], bandwidth), strict=True)
    return [found[index] for index in range(len(votes))]


def _batch_modes(votes: Sequence[Tensor], bandwidth: float) -> list[tuple[Tensor, Tensor]]:
    fits, longest, _ = votes[0].shape
    dtype = torch.promote_types(votes[0].dtype, torch.float32)
    points = votes[0].new_zeros(len(votes), fits, longest, 3, dtype=dtype)
    weights = points.new_zeros(len(votes), fits, longest, 1)
    for row, mask, own in zip(points, weights, votes, strict=True):
        row[:, : own.shape[1]] = own
        mask[:, : own.shape[1]] = 1
    points, weights = points.flatten(0, 1), weights.flatten(0, 1)
    counts = weights.sum(1, keepdim=True)
    # Without centring float32 would cancel in the products of coordinates.
    origin = points.sum(1, keepdim=True) / counts
    points = (points - origin) / (KERNEL * bandwidth)
    spread = torch.arange(SEEDS, device=points.device) * counts[:, :, 0].to(torch.int64) // SEEDS
    seeds = points.gather(1, spread[..., None].expand(-1, -1, 3))
    half_norms = torch.linalg.vecdot(points, points).mul_(-0.5)[:, None]
    turned = torch.cat([points.transpose(1, 2), torch.ones_like(half_norms), half_norms], dim=1)
    summed = torch.cat([points, torch.ones_like(weights)], dim=2) * weights
    densest = _kernel_sums(seeds, turned, summed)[..., 3].argmax(1)
    centres = seeds.gather(1, densest[:, None, None].expand(-1, 1, 3))
    moving = torch.ones_like(centres[..., :1], dtype=torch.bool)
    for _ in range(MAX_UPDATES):
        sums = _kernel_sums(centres, turned, summed)
        moved = torch.where(moving, sums[..., :3] / sums[..., 3:], centres)
        # A fit that has converged must not depend on how long others move.
        moving &= (moved - centres).norm(dim=2, keepdim=True) >= MOVE_CONVERGED / KERNEL
        centres = moved
        if not bool(moving.any()):
            break
    squares = torch.linalg.vecdot(points - centres, points - centres)
    nearest = squares.masked_fill(weights[..., 0] == 0, torch.inf).amin(1, keepdim=True)
    near = squares <= nearest.clamp(min=(REACH / KERNEL) ** 2)
    modes = (centres * (KERNEL * bandwidth) + origin).view(len(votes), fits, 3)
    return [
        (own_modes.to(own.dtype), own_near[:, : own.shape[1]])
        for own_modes, own_near, own in zip(
            modes, near.view(len(votes), fits, longest), votes, strict=True
        )
    ]


def _kernel_sums(places: Tensor, turned: Tensor, summed: Tensor) -> Tensor:
    """Kernel-weighted sums (F, S, 4) of points and their weights around each place (F, S, 3).

    `turned` is (F, 5, N): points, 1, -|x|²/2; `summed` (F, N, 4): weighted points, weights.
    """
    half_norms = torch.linalg.vecdot(places, places).mul_(-0.5)[..., None]
    left = torch.cat([places, half_norms, torch.ones_like(half_norms)], dim=2)
    # Rounding must not make a squared distance negative.
    return torch.bmm(torch.bmm(left, turned).clamp_(max=0).exp_(), summed)
