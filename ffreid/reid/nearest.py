"""The gallery items that are nearest to a query, as rank lists show them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import Protocol, filter_mask, match_masks

LENGTH = 10
_BLOCK_BYTES = 64 << 20


class Nearest(NamedTuple):
    """Indices of gallery items, the nearest first, whether they are matches, and the cosines."""

    items: list[int]
    is_match: list[bool]
    cosines: list[float]


def nearest_items(
    features: ExtractedFeatures,
    protocol: Protocol,
    queries: Sequence[int],
    device: torch.device,
    length: int = LENGTH,
) -> Iterator[Nearest]:
    """Yield the first `length` items of each query's ranking, which has no junk.

    Ties are ordered by the gallery index, as in the ranking.
    """
    labels, gallery = features.labels(device)
    query_features, items = features.query.features.to(device), features.gallery.features.to(device)
    takes_part = filter_mask(gallery, protocol.gallery)
    size = max(1, _BLOCK_BYTES // max(4 * len(items), 1))
    for part in torch.split(torch.tensor(queries, dtype=torch.int64, device=device), size):
        rows = {name: values[part] for name, values in labels.items()}
        match, junk = match_masks(protocol, rows, gallery)
        cosines = query_features[part] @ items.T
        cosines.masked_fill_(junk | ~takes_part, -torch.inf)
        least = cosines.topk(min(length, len(items)), dim=1).values[:, -1:]
        near = (cosines >= least) & cosines.isfinite()
        for row, found in enumerate(near):
            first = found.nonzero().view(-1)
            order = cosines[row, first].argsort(descending=True, stable=True)[:length]
            first = first[order]
            values = cosines[row, first].tolist()
            yield Nearest(first.tolist(), match[row, first].tolist(), values)
