"""The gallery items that are nearest to a query, as rank lists show them."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import ColumnFilter, Protocol, filter_mask, match_masks
from ffreid.reid.retrieval.ranking import cosine_distances

LENGTH = 10
_BLOCK_BYTES = 64 << 20
_CANDIDATES = 1 << 21
"""Items that are compared at once under the protocols."""


class Nearest(NamedTuple):
    """Indices of gallery items, the nearest first, whether they are matches, and the cosines."""

    items: list[int]
    is_match: list[bool]
    cosines: list[float]


def nearest_items(
    features: ExtractedFeatures,
    protocols: Sequence[Protocol],
    queries: Sequence[int],
    device: torch.device,
    length: int = LENGTH,
) -> Iterator[dict[str, Nearest]]:
    """Yield the first `length` items of each query's rankings, which have no junk, by protocol.

    Ties are ordered by the gallery index, as in the ranking. Junk is of the query's person, so the
    items are among the `length` nearest and as many more as the person has: the distances are
    computed and searched once for all protocols.
    """
    labels, gallery = features.labels(device)
    query_features, items = features.query.features.to(device), features.gallery.features.to(device)
    groups: dict[ColumnFilter, list[Protocol]] = {}
    for protocol in protocols:
        groups.setdefault(protocol.gallery, []).append(protocol)
    identities, members = torch.unique(gallery["identity"], return_counts=True)
    count = min(length + (int(members.max()) if len(identities) else 0), len(items))
    size = max(1, min(_BLOCK_BYTES // max(4 * len(items), 1), _CANDIDATES // max(count, 1)))
    for part in torch.split(torch.tensor(queries, dtype=torch.int64, device=device), size):
        rows = {name: values[part] for name, values in labels.items()}
        distances = cosine_distances(query_features[part], items)(0, len(part))
        found: list[dict[str, Nearest]] = [{} for _ in range(len(part))]
        for column_filter, group in groups.items():
            if column_filter:
                others = ~filter_mask(gallery, column_filter)
                candidates, values = _nearest(distances.masked_fill(others, torch.inf), count)
            else:
                candidates, values = _nearest(distances, count)
            known = {name: column[candidates] for name, column in gallery.items()}
            for protocol in group:
                match, junk = match_masks(protocol, rows, known)
                shown = ~junk & values.isfinite()
                shown &= shown.cumsum(dim=1) <= length
                numbers = shown.sum(dim=1).tolist()
                columns = (candidates[shown], match[shown], -values[shown])
                split = zip(*(torch.split(c.cpu(), numbers) for c in columns), strict=True)
                for row, lists in zip(found, split, strict=True):
                    row[protocol.name] = Nearest(*(values.tolist() for values in lists))
        yield from found


def _nearest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices (R, C) of the `count` nearest items of each row, and ties with the last; distances.

    Sorted by distance, then by index; what follows the last one of a row is infinitely far.
    """
    if not count:
        return distances.new_empty(len(distances), 0, dtype=torch.int64), distances[:, :0]
    last = distances.topk(count, largest=False, sorted=False).values.amax(dim=1, keepdim=True)
    row, column = ((distances <= last) & distances.isfinite()).nonzero(as_tuple=True)
    start = torch.searchsorted(row, torch.arange(len(distances), device=row.device))
    place = torch.arange(len(row), device=row.device) - start[row]
    shape = len(distances), int(place.max()) + 1 if len(place) else 0
    candidates = column.new_zeros(shape).index_put_((row, place), column)
    values = distances.new_full(shape, torch.inf).index_put_((row, place), distances[row, column])
    order = values.argsort(dim=1, stable=True)
    return candidates.gather(1, order), values.gather(1, order)


def largest(values: Tensor, length: int) -> list[Tensor]:
    """Columns of the `length` largest finite values of each row (R, C), ties by column."""
    if not values.numel():
        return [torch.empty(0, dtype=torch.int64, device=values.device)] * len(values)
    least = values.topk(min(length, values.shape[1]), dim=1).values[:, -1:]
    near = (values >= least) & values.isfinite()
    columns = []
    for row, found in enumerate(near):
        first = found.nonzero().view(-1)
        order = values[row, first].argsort(descending=True, stable=True)
        columns.append(first[order[:length]])
    return columns


def nearest_rows(
    query: Tensor,
    gallery: Any,
    rows: npt.NDArray[np.int64],
    length: int,
    *,
    excluded: Sequence[Collection[int]] = (),
) -> list[tuple[list[int], list[float]]]:
    """Search float16 features in chunks, for what does not fit into memory; exact.

    Cosines are products of float32. Ties are ordered by item.

    Args:
        query: (Q, D) float32 of length 1, on the device that is to compute.
        gallery: (M, D) array of length 1, e.g. of a memory-mapped file.
        rows: (G,) rows of the gallery's items.
        excluded: items that each query does not find.

    Returns:
        For each query the nearest items, indices into `rows`, and their cosines.
    """
    best = query.new_empty(len(query), 0)
    items = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
    size = max(1, _BLOCK_BYTES // (4 * max(query.shape[1], len(query), 1)))
    for start in range(0, len(rows), size):
        part = np.asarray(gallery[rows[start : start + size]])
        cosines = query @ torch.from_numpy(part).to(query.device).float().T
        for row, hidden in enumerate(excluded):
            own = [item - start for item in hidden if start <= item < start + len(part)]
            cosines[row, own] = -torch.inf
        numbers = torch.arange(start, start + len(part), device=query.device)
        # Those so far are first: they have the smaller numbers.
        best = torch.cat([best, cosines], dim=1)
        items = torch.cat([items, numbers.expand(len(query), -1)], dim=1)
        columns = torch.nn.utils.rnn.pad_sequence(
            largest(best, length), batch_first=True, padding_value=-1
        )
        chosen = columns.clamp(min=0)
        items = items.gather(1, chosen)
        best = best.gather(1, chosen).masked_fill_(columns < 0, -torch.inf)
    kept = best.isfinite()
    return [
        (item[keep].tolist(), cosine[keep].tolist())
        for item, cosine, keep in zip(items, best, kept, strict=True)
    ]
