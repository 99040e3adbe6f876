"""Blurring mean shift with a Gaussian kernel, many fits at once.

Every point moves to the weighted mean of all moved points until nothing moves further than a
thousandth of the bandwidth (Fukunaga and Hostetler 1975, as FFB6D uses it). The result is that of
`reference_mean_shift` up to rounding, computed faster:

- the exponents of a tile of weights are one matrix product of the augmented points
  ``[x, -|x|²/2, 1] · [y, 1, -|y|²/2]``, the sums of weights and weighted points a second;
- weights are symmetric: only tiles on and right of the diagonal are computed;
- a tile fits the processor's cache: no N x N matrix is stored;
- points that coincide (within 8e-6 bandwidths) are merged into one heavier point at their mean,
  which changes sums to second order only: 1e-10, below float32 rounding;
- converged fits leave the batch.
"""

import torch
from torch import Tensor

MOVE_CONVERGED = 1e-3
"""A fit has converged when no point moves further than this many bandwidths."""

MERGED_WITHIN = 2.0**-17
"""Side of the cells, in bandwidths, whose points are merged."""

# Looking for points to merge costs as much as a few updates of this many points.
_MERGE_EVERY = 4
_FEW = 48

# Elements of a tile of weights: about a core's second-level cache, and plenty for a GPU.
_TILE_ON_CPU = 1 << 18
_TILE_ON_GPU = 1 << 26


def mean_shift(
    points: Tensor, *, bandwidth: float, max_iterations: int = 300
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the densest mode of each of F sets of points, and the points that converge to it.

    Args:
        points: (F, N, D) finite floats of any precision, in any unit.
        bandwidth: width of the Gaussian and of the neighbourhood, in the points' unit.
        max_iterations: as in the original a fit stops after at most one update more than this.

    Returns:
        (F, D) centres, (F, N) bool points that ended within `bandwidth` of their centre, and
        (F,) int64 number of updates.
    """
    moved, origin, updates = _converge(points, bandwidth, max_iterations)
    densest = _neighbour_counts(moved, torch.ones_like(moved[..., 0])).argmax(dim=1)
    centres = moved[torch.arange(len(moved), device=moved.device), densest]
    inliers = _near(centres[:, None], moved)[:, 0]
    centres = centres * bandwidth + origin[:, 0]
    return centres.to(points.dtype), inliers, updates


def mean_shift_clusters(
    points: Tensor, *, bandwidth: float, max_iterations: int = 300
) -> tuple[Tensor, Tensor, Tensor]:
    """Split one set of points into clusters, the densest first.

    After convergence the point with most unlabelled neighbours within `bandwidth` forms a cluster
    with them, until no point is left. Arguments as for `mean_shift`, with (N, D) points.

    Returns:
        (C, D) centres, (N,) int64 cluster of every point counted from 1, (C,) int64 sizes.
    """
    moved, origin, _ = _converge(points[None], bandwidth, max_iterations)
    labels = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    centres: list[Tensor] = []
    while bool((left := labels == 0).any()):
        counts = _neighbour_counts(moved, left[None])
        densest = int(counts[0].argmax())
        centres.append(moved[0, densest])
        near = _near(moved[:, densest : densest + 1], moved)[0, 0]
        labels[near & left] = len(centres)
    sizes = labels.bincount(minlength=len(centres) + 1)[1:]
    return (torch.stack(centres) * bandwidth + origin[0]).to(points.dtype), labels, sizes


def _converge(
    points: Tensor, bandwidth: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Converged points in bandwidths from the mean, that mean (F, 1, D), and number of updates.

    Without centring float32 would cancel in the products of coordinates.
    """
    precise = points.to(torch.promote_types(points.dtype, torch.float32))
    weights = torch.ones_like(precise[..., 0])
    origin = precise.sum(1, keepdim=True) / points.shape[1]
    current = (precise - origin) / bandwidth
    converged = torch.empty_like(current)
    updates = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    active = torch.arange(len(points), device=points.device)
    place = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    for update in range(1, max_iterations + 2):
        means = _weighted_means(current, weights)
        moves = means - current
        moving = torch.linalg.vecdot(moves, moves).amax(1) >= MOVE_CONVERGED**2
        current = means
        if update > max_iterations:
            moving.fill_(False)
        if not bool(moving.all()):
            finished = ~moving
            expanded = place[finished][..., None].expand(-1, -1, points.shape[2])
            converged[active[finished]] = current[finished].gather(1, expanded)
            updates[active[finished]] = update
            active, current, weights, place = (t[moving] for t in (active, current, weights, place))
            if not len(active):
                break
        if update % _MERGE_EVERY == 0 and current.shape[1] > _FEW:
            current, weights, place = _merge(current, weights, place)
    return converged, origin, updates


def _merge(points: Tensor, weights: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace points that share a cell by their weighted mean, with the sum of their weights.

    `place` (F, N) is the row in `points` (F, R, D) of each initial point.
    """
    fit, column = weights.nonzero(as_tuple=True)
    cells = (points[fit, column] / MERGED_WITHIN).round_().to(torch.int64)
    cells = torch.cat([fit[:, None], cells], dim=1)
    groups, group = torch.unique(cells, dim=0, return_inverse=True)
    sizes = groups[:, 0].bincount(minlength=len(points))
    # Groups come sorted by fit, so a group's column is its distance from its fit's first group.
    columns = torch.arange(len(groups), device=points.device)
    columns -= (sizes.cumsum(0) - sizes)[groups[:, 0]]
    renumbered = torch.zeros_like(weights, dtype=torch.int64)
    renumbered[fit, column] = columns[group]
    mass = points.new_zeros(len(points), int(sizes.max()))
    mass.index_put_((fit, columns[group]), weights[fit, column], accumulate=True)
    sums = points.new_zeros(*mass.shape, points.shape[2])
    weighted = points[fit, column] * weights[fit, column, None]
    sums.index_put_((fit, columns[group]), weighted, accumulate=True)
    merged = sums / mass.clamp(min=1)[..., None]
    merged = torch.where(mass[..., None] > 0, merged, merged[:, :1])
    return merged, mass, renumbered.gather(1, place)


def _weighted_means(points: Tensor, weights: Tensor) -> Tensor:
    """Gaussian-weighted mean (F, R, D) of all points around every point."""
    count, axes = points.shape[1:]
    half_norms = torch.linalg.vecdot(points, points).mul_(-0.5)[..., None]
    ones = torch.ones_like(half_norms)
    left = torch.cat([points, half_norms, ones], dim=2)
    right = torch.cat([points, ones, half_norms], dim=2).transpose(1, 2)
    summed = right[:, : axes + 1] * weights[:, None]
    sums = torch.zeros_like(summed)
    rows = _tile_rows(points)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        # Rounding must not make a squared distance negative.
        kernel = torch.bmm(left[:, start:stop], right[:, :, start:]).clamp_(max=0).exp_()
        sums[:, :, start:stop] += torch.bmm(summed[:, :, start:], kernel.transpose(1, 2))
        if stop < count:
            sums[:, :, stop:] += torch.bmm(summed[:, :, start:stop], kernel[:, :, stop - start :])
    return (sums[:, :-1] / sums[:, -1:]).transpose(1, 2)


def _neighbour_counts(points: Tensor, valid: Tensor) -> Tensor:
    """Number of valid points within 1 of every point (F, N), 0 for invalid points."""
    column = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    merged, mass, place = _merge(points, valid.to(points.dtype), column)
    rows = _tile_rows(merged)
    tiles = [
        (_near(merged[:, start : start + rows], merged) * mass[:, None]).sum(2)
        for start in range(0, merged.shape[1], rows)
    ]
    return torch.cat(tiles, dim=1).gather(1, place) * valid


def _near(some: Tensor, points: Tensor) -> Tensor:
    """Whether (F, R, N) each point is within 1 of `some` (F, R, D), by exact differences."""
    squares = (some[:, :, None, 0] - points[:, None, :, 0]).square_()
    for axis in range(1, points.shape[2]):
        squares += (some[:, :, None, axis] - points[:, None, :, axis]).square_()
    return squares < 1.0


def _tile_rows(points: Tensor) -> int:
    budget = _TILE_ON_GPU if points.is_cuda else _TILE_ON_CPU
    return max(1, budget // (points.shape[0] * points.shape[1]))
