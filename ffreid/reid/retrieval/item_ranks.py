"""Exact ranks of a few items in rows of distances, without sorting the rows."""

import torch
from torch import Tensor

_LARGEST_SCALE = 1e30


def item_ranks(distances: Tensor, selected: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Find the ranks of some items of each row among all items of that row.

    Items are ordered by distance, then by index. Distances are counted in bins between the first
    and last selected item of a row. The bin is a monotonic function of the distance, so bins
    without a selected item are counted as a whole, and only the other items are sorted.

    Args:
        distances: (R, G) finite, float32 or float64.
        selected: (R, M) int64 indices into a row.
        valid: (R, M) booleans, false for padding; some of each row are true.

    Returns:
        The order (R, M) of the selected items by distance, padding last, and their 1-based ranks
        (R, M) in that order, meaningless for padding.
    """
    rows, items = distances.shape
    values = distances.gather(1, selected)
    first = values.masked_fill(~valid, torch.inf).amin(dim=1, keepdim=True)
    last = values.masked_fill(~valid, -torch.inf).amax(dim=1, keepdim=True)
    count = min(max(items // 4, 64), 16384)
    width = count + 4
    scale = (count / (last - first)).clamp_(max=_LARGEST_SCALE)
    # Selected items are in bins 2 to count + 2, so that items well below or above are not.
    bins = (distances - first).mul_(scale).add_(2).clamp_(0, count + 3).to(torch.int32)
    row = torch.arange(rows, device=bins.device)
    bins = (bins + (row * width).to(torch.int32)[:, None]).view(-1)
    starts = row * items
    chosen = (selected + starts[:, None])[valid]

    close = torch.zeros(rows * width, dtype=torch.bool, device=bins.device)
    close[bins[chosen]] = True
    counts = torch.bincount(bins, minlength=rows * width).masked_fill_(close, 0)
    below = counts.view(rows, width).cumsum(1).view(-1)

    # The close items of each row side by side, then sorted.
    flat = close.index_select(0, bins).nonzero().view(-1)
    offset = torch.searchsorted(flat, starts)
    row = flat // items
    column = torch.arange(len(flat), device=flat.device) - offset[row]
    near = distances.new_full((rows, int(column.max()) + 1), torch.inf)
    near[row, column] = distances.view(-1)[flat]
    order = near.argsort(dim=1, stable=True)
    places = torch.arange(1, order.shape[1] + 1, device=flat.device).expand_as(order)
    place = torch.empty_like(order).scatter_(1, order, places)
    found = torch.searchsorted(flat, chosen)
    ranks = torch.full_like(selected, items + 1)
    ranks[valid] = below[bins[chosen]] + place[row[found], column[found]]
    ranks, order = ranks.sort(dim=1)
    return order, ranks
