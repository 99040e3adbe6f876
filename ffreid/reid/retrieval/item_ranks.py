"""Exact ranks of a few items in rows of distances, without sorting the rows."""

import torch
from torch import Tensor

_LARGEST_SCALE = 1e30


def item_ranks(distances: Tensor, selected: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Find the ranks of some items of each row among all items of that row.

    Items are ordered by distance, then by index. Distances are counted in bins between the first
    and last selected item of a row. The bin is a monotonic function of the distance, so bins
    without a selected item are counted as a whole, and only the other items are compared.

    Args:
        distances: (R, G) finite, float32 or float64.
        selected: (R, M) int64 indices into a row, increasing, with padding at the end.
        valid: (R, M) booleans, false for the padding; the first of each row is true.

    Returns:
        The order (R, M) of the selected items by distance, padding last, and their 1-based ranks
        (R, M) in that order, meaningless for padding.
    """
    rows, items = distances.shape
    values = distances.gather(1, selected).masked_fill(~valid, torch.inf)
    values, order = values.sort(dim=1, stable=True)
    index = selected.gather(1, order)
    valid = valid.gather(1, order)
    last = values.masked_fill(~valid, -torch.inf).amax(dim=1, keepdim=True)
    bins = _bins(distances, values[:, :1], last, _bin_count(items))
    width = _bin_count(items) + 4
    bins += torch.arange(rows, device=bins.device, dtype=bins.dtype)[:, None] * width
    # Padding gets the bin of the last item: bins increase along a row.
    item_bins = bins.gather(1, index).masked_fill(~valid, 0).cummax(dim=1).values.long()

    counts = torch.bincount(bins.view(-1), minlength=rows * width)
    close = torch.zeros(rows * width, dtype=torch.bool, device=bins.device)
    close[item_bins.view(-1)] = True
    counts[item_bins.view(-1)] = 0
    below = counts.view(rows, width).cumsum(1).view(-1)[item_bins]

    flat = close.index_select(0, bins.view(-1)).nonzero().view(-1)
    row = torch.div(flat, items, rounding_mode="floor")
    start, bits = _bin_starts(item_bins, valid)
    starts = torch.empty(rows * width, dtype=torch.int64, device=bins.device)
    starts[item_bins.view(-1)] = start.view(-1)
    start = starts[bins.view(-1)[flat]]
    place = _places(start, bits, values, index, row, distances.view(-1)[flat], flat - row * items)
    width = values.shape[1] + 1
    compared = torch.bincount(row * width + place, minlength=rows * width)
    return order, below + compared.view(rows, width).cumsum(1)[:, :-1]


def _bin_count(items: int) -> int:
    """Number of bins between the first and last selected item."""
    return min(max(items // 4, 64), 16384)


def _bins(distances: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    """(R, G) int32 bins in [0, count + 4), monotonic in the distance.

    Selected items are in bins 2 to count + 2, so that items well below or above are not.
    """
    scale = (count / (last - first)).clamp_(max=_LARGEST_SCALE)
    return ((distances - first).mul_(scale).add_(2).clamp_(0, count + 3)).to(torch.int32)


def _bin_starts(item_bins: Tensor, valid: Tensor) -> tuple[Tensor, int]:
    """Index of the first selected item in each one's bin, and the bit length of a bin's count.

    Items of one bin get the same index, so writing it to the bin is deterministic.
    """
    offset = torch.arange(item_bins.shape[1], device=item_bins.device)
    new = item_bins[:, 1:] != item_bins[:, :-1]
    start = (new * offset[1:]).cummax(dim=1).values
    start = torch.nn.functional.pad(start, (1, 0))
    return start, int(((offset - start) * valid).max() + 1).bit_length()


def _places(
    start: Tensor,
    bits: int,
    values: Tensor,
    index: Tensor,
    row: Tensor,
    distance: Tensor,
    item: Tensor,
) -> Tensor:
    """Number (C,) of a row's selected items before each of C items, by binary search.

    The search adds up to `bits` bits to the lower bounds `start`. The selected items have the
    distances `values` (R, M), increasing, then infinity, and for equal distances increasing `index`
    (R, M). `row`, `distance` and `item` (C,) are row, distance and index of the C items.
    """
    pad = (0, 1 << bits)
    values = torch.nn.functional.pad(values, pad, value=torch.inf)
    shift = row * values.shape[1]
    values, index = values.view(-1), torch.nn.functional.pad(index, pad).view(-1)
    place = start + shift
    for bit in reversed(range(bits)):
        probe = place + ((1 << bit) - 1)
        value = values[probe]
        before = (value < distance) | ((value == distance) & (index[probe] < item))
        place = place + (before.long() << bit)
    return place - shift
