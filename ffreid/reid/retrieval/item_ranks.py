"""Ranks of a few items in rows of distances, exactly and without sorting the rows."""

import torch
from torch import Tensor

_LARGEST_SCALE = 1e30


def item_ranks(distances: Tensor, own: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Find the places that some items of each row take among all items of that row.

    Items are ordered by distance, then by index. The distances are counted in bins between a
    row's first and last own item; as the bin is a monotone function of the distance, all items
    in bins without an own item are counted at once, and only the others are compared.

    Args:
        distances: (R, G) finite, float32 or float64.
        own: (R, M) int64 indices into a row, increasing; what lies behind a row's own is ignored.
        real: (R, M) booleans: which of `own` count; the first of each row must.

    Returns:
        The order (R, M) of a row's own items by distance, those that don't count last, and the
        1-based ranks (R, M) in that order, meaningless for those that don't count.
    """
    rows, items = distances.shape
    values = distances.gather(1, own).masked_fill(~real, torch.inf)
    values, order = values.sort(dim=1, stable=True)
    index = own.gather(1, order)
    real = real.gather(1, order)
    last = values.masked_fill(~real, -torch.inf).amax(dim=1, keepdim=True)
    bins = _bins(distances, values[:, :1], last, _bin_count(items))
    width = _bin_count(items) + 4
    bins += torch.arange(rows, device=bins.device, dtype=bins.dtype)[:, None] * width
    # Those that don't count stand in the last one's bin: bins rise along a row.
    own_bins = bins.gather(1, index).masked_fill(~real, 0).cummax(dim=1).values.long()

    counts = torch.bincount(bins.view(-1), minlength=rows * width)
    close = torch.zeros(rows * width, dtype=torch.bool, device=bins.device)
    close[own_bins.view(-1)] = True
    counts[own_bins.view(-1)] = 0
    below = counts.view(rows, width).cumsum(1).view(-1)[own_bins]

    flat = close.index_select(0, bins.view(-1)).nonzero().view(-1)
    row = torch.div(flat, items, rounding_mode="floor")
    start, bits = _bin_starts(own_bins, real)
    starts = torch.empty(rows * width, dtype=torch.int64, device=bins.device)
    starts[own_bins.view(-1)] = start.view(-1)
    place = starts[bins.view(-1)[flat]]
    place = _places(place, bits, values, index, row, distances.view(-1)[flat], flat - row * items)
    each = values.shape[1] + 1
    compared = torch.bincount(row * each + place, minlength=rows * each)
    return order, below + compared.view(rows, each).cumsum(1)[:, :-1]


def _bin_count(items: int) -> int:
    """Choose how many bins lie between a row's first and last own item."""
    return min(max(items // 4, 64), 16384)


def _bins(distances: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    """Give (R, G) int32 bins in [0, count + 4), never falling where the distance rises.

    The own items lie in bins 2 to count + 2, so that what is well below or above stays alone.
    """
    scale = (count / (last - first)).clamp_(max=_LARGEST_SCALE)
    return ((distances - first).mul_(scale).add_(2).clamp_(0, count + 3)).to(torch.int32)


def _bin_starts(own_bins: Tensor, real: Tensor) -> tuple[Tensor, int]:
    """Find which own item is the first of each one's bin, and the bits that a bin's count takes.

    Items of one bin get the same number, so that writing it to the bin has one outcome.
    """
    offset = torch.arange(own_bins.shape[1], device=own_bins.device)
    new = own_bins[:, 1:] != own_bins[:, :-1]
    start = (new * offset[1:]).cummax(dim=1).values
    start = torch.nn.functional.pad(start, (1, 0))
    return start, int(((offset - start) * real).max() + 1).bit_length()


def _places(
    start: Tensor,
    bits: int,
    values: Tensor,
    index: Tensor,
    row: Tensor,
    distance: Tensor,
    item: Tensor,
) -> Tensor:
    """Count a row's own items that come before each of some items, by binary search.

    Args:
        start: (C,) how many surely do.
        bits: of the number of own items in question.
        values: (R, M) the own distances, rising, then infinity.
        index: (R, M) the own items' indices, rising where the distances are equal.
        row: (C,) which row an item is of; `distance` (C,) and `item` (C,) are its own.
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
