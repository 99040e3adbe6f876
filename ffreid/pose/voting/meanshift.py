"""Blurring mean shift with a Gaussian kernel, many fits at once.

Every point moves to the weighted mean of all points, weights taken between the moved points, until
nothing moves further than a thousandth of the bandwidth (Fukunaga and Hostetler 1975, as FFB6D
uses it). The result is that of `reference_mean_shift` up to rounding; what differs is the work:

- the exponents of a tile of weights come out of one matrix product of the augmented points
  ``[x, -|x|²/2, 1] · [y, 1, -|y|²/2]``, the sums of weights and weighted points out of a second;
- weights are symmetric, so that only tiles on and right of the diagonal are computed;
- a tile fits the processor's cache, so that no N x N table is ever held in memory;
- points that have met (within 8e-6 bandwidths) go on as one heavier point at their mean, which
  leaves every sum as it was to second order: 1e-10, below what float32 rounds away;
- fits that have come to rest leave the batch.
"""

import torch
from torch import Tensor

MOVE_AT_REST = 1e-3
"""A fit is at rest when no point moves further than this many bandwidths."""

MERGED_WITHIN = 2.0**-17
"""Side of the cells, in bandwidths, in which points count as one from then on."""

# Looking for points that have met costs as much as a few updates of so few points.
_MERGE_EVERY = 4
_FEW = 48

# Elements of one tile of weights: about a core's second-level cache, and plenty for a GPU.
_TILE_ON_CPU = 1 << 18
_TILE_ON_GPU = 1 << 26


def mean_shift(
    points: Tensor,
    *,
    bandwidth: float,
    max_iterations: int = 300,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the densest place of each of F sets of points, and who ends up there.

    Args:
        points: (F, N, D) finite floats of any precision, in any unit.
        bandwidth: width of the Gaussian and of the neighbourhood, in the points' unit.
        max_iterations: a fit stops after one update more than this at the latest (as the
            original counts).
        mask: (F, N) bool, False for points that are padding; each fit keeps at least one.

    Returns:
        (F, D) centres, (F, N) bool points that ended within `bandwidth` of their centre, and
        (F,) int64 number of updates made.
    """
    valid = _checked_mask(points, mask)
    moved, origin, updates = _converge(points, valid, bandwidth, max_iterations)
    densest = _neighbour_counts(moved, valid).argmax(dim=1)
    centres = moved[torch.arange(len(moved), device=moved.device), densest]
    inliers = _near(centres[:, None], moved)[:, 0] & valid
    centres = centres * bandwidth + origin[:, 0]
    return centres.to(points.dtype), inliers, updates


def mean_shift_clusters(
    points: Tensor, *, bandwidth: float, max_iterations: int = 300
) -> tuple[Tensor, Tensor, Tensor]:
    """Split one set of points into clusters, the densest first.

    After convergence the point with most unlabelled neighbours within `bandwidth` takes them as
    its cluster, until no point is left.

    Args:
        points: (N, D) finite floats.
        bandwidth: as for `mean_shift`.
        max_iterations: as for `mean_shift`.

    Returns:
        (C, D) centres, (N,) int64 cluster of every point counted from 1, (C,) int64 sizes.
    """
    valid = _checked_mask(points[None], None)
    moved, origin, _ = _converge(points[None], valid, bandwidth, max_iterations)
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


def _checked_mask(points: Tensor, mask: Tensor | None) -> Tensor:
    assert points.ndim == 3, f"points of shape {tuple(points.shape)}, expected (F, N, D)"
    if mask is None:
        mask = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    assert mask.shape == points.shape[:2], f"mask {tuple(mask.shape)} for {tuple(points.shape)}"
    assert points.shape[1] > 0, "a fit needs at least one point"
    assert bool(mask.any(dim=1).all()), "a fit needs at least one point"
    return mask


def _converge(
    points: Tensor, valid: Tensor, bandwidth: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the points at rest in bandwidths from the mean, that mean (F, 1, D), and the updates.

    Centring keeps the products of coordinates small, where float32 would cancel otherwise.
    """
    precise = points.to(torch.promote_types(points.dtype, torch.float32))
    weights = valid.to(precise.dtype)
    # Padding stands on a point of its fit: without weight it moves as that does, and never alone.
    first = valid.int().argmax(1)[:, None, None].expand(-1, 1, points.shape[2])
    precise = torch.where(valid[..., None], precise, precise.gather(1, first))
    origin = (precise * weights[..., None]).sum(1, keepdim=True) / weights.sum(1)[:, None, None]
    current = (precise - origin) / bandwidth
    at_rest = torch.empty_like(current)
    updates = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    going = torch.arange(len(points), device=points.device)
    place = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    for update in range(1, max_iterations + 2):
        means = _weighted_means(current, weights)
        moves = means - current
        still = torch.linalg.vecdot(moves, moves).amax(1) >= MOVE_AT_REST**2
        current = means
        if update > max_iterations:
            still.fill_(False)
        if not bool(still.all()):
            ended = ~still
            expanded = place[ended][..., None].expand(-1, -1, points.shape[2])
            at_rest[going[ended]] = current[ended].gather(1, expanded)
            updates[going[ended]] = update
            going, current, weights, place = (t[still] for t in (going, current, weights, place))
            if not len(going):
                break
        if update % _MERGE_EVERY == 0 and current.shape[1] > _FEW:
            current, weights, place = _merge(current, weights, place)
    return at_rest, origin, updates


def _merge(points: Tensor, weights: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace points that share a cell by their weighted mean, with the sum of their weights.

    `place` (F, N) says where each point of the outset stands in `points` (F, R, D).
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
    """Give the Gaussian-weighted mean (F, R, D) of all points around every point."""
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
    """Give how many valid points lie within 1 of every point (F, N), 0 for points not valid."""
    column = torch.arange(points.shape[1], device=points.device).repeat(len(points), 1)
    merged, mass, place = _merge(points, valid.to(points.dtype), column)
    rows = _tile_rows(merged)
    tiles = [
        (_near(merged[:, start : start + rows], merged) * mass[:, None]).sum(2)
        for start in range(0, merged.shape[1], rows)
    ]
    return torch.cat(tiles, dim=1).gather(1, place) * valid


def _near(some: Tensor, points: Tensor) -> Tensor:
    """Tell (F, R, N) which points lie within 1 of `some` (F, R, D), by exact differences."""
    squares = (some[:, :, None, 0] - points[:, None, :, 0]).square_()
    for axis in range(1, points.shape[2]):
        squares += (some[:, :, None, axis] - points[:, None, :, axis]).square_()
    return squares < 1.0


def _tile_rows(points: Tensor) -> int:
    budget = _TILE_ON_GPU if points.is_cuda else _TILE_ON_CPU
    return max(1, budget // (points.shape[0] * points.shape[1]))
