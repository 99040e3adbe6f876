"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) with sparse encodings.

No item's distances from all others are kept, only its neighbours: memory grows with the number
of items, not with its square. Neighbours at exactly the same distance come in any order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from ffreid.reid.retrieval.ranking import Distances

K1, K2, WEIGHT = 20, 6, 0.3
_BLOCK_BYTES = 64 << 20
_ROWS = 4096

Indices = npt.NDArray[np.int64]
Sparse = Any  # scipy has no types


def rerank(
    query: Tensor, gallery: Tensor, *, k1: int = K1, k2: int = K2, weight: float = WEIGHT
) -> Distances:
    """Give the re-ranked distances of unit features (Q, D) and (G, D), by rows of queries.

    The distance is ``weight * d + (1 - weight) * jaccard`` (eq. 12), where d is the squared
    Euclidean distance over the largest one of the query's, and the Jaccard distance is that of
    the weighted k-reciprocal neighbours (eq. 7 to 10).

    Args:
        query: features of length 1.
        gallery: features of length 1, same dtype and device.
        k1: neighbours that must be mutual.
        k2: nearest items whose encodings are averaged.
        weight: share of the original distance (lambda).
    """
    count, items = len(query), len(query) + len(gallery)
    neighbours, furthest = nearest(query, gallery, min(max(k1 + 1, k2), items))
    sets = expanded_sets(neighbours, k1)
    codes = encodings(query, gallery, furthest, sets)
    if k2 != 1:
        codes = _relation(neighbours[:, :k2]).astype(codes.dtype) @ codes / min(k2, items)
    by_column = codes.tocsc()

    def rows(start: int, stop: int) -> Tensor:
        own = _squared(query[start:stop] @ gallery.T) / furthest[start:stop, None]
        jaccard = _jaccard(codes[start:stop], by_column)[:, count:]
        return weight * own + (1 - weight) * torch.from_numpy(jaccard).to(own)

    return rows


def nearest(query: Tensor, gallery: Tensor, count: int) -> tuple[Indices, Tensor]:
    """Find each item's `count` nearest items (N, count), itself among them, nearest first.

    The N items are the queries, then the gallery, which are not copied to one tensor: with 4,096
    dimensions that would take more than all else.

    Returns:
        Their indices, and (N,) each item's largest squared distance from any item.
    """
    block = max(1, _BLOCK_BYTES // (query.element_size() * max(len(query) + len(gallery), 1)))
    indices, furthest = [], []
    for some in (*torch.split(query, block), *torch.split(gallery, block)):
        if not len(some):
            continue
        cosines = torch.cat([some @ query.T, some @ gallery.T], dim=1)
        indices.append(cosines.topk(count, dim=1).indices.cpu())
        furthest.append(_squared(cosines.amin(dim=1)))
    return torch.cat(indices).numpy(), torch.cat(furthest)


def expanded_sets(neighbours: Indices, k1: int) -> Sparse:
    """Give the k-reciprocal sets R* (N, N), each expanded by those of its members (eq. 5).

    A member's set at half of k1 is taken in if more than two thirds of it are in the set already.
    """
    mutual = _mutual(neighbours[:, : k1 + 1])
    half = _mutual(neighbours[:, : int(np.around(k1 / 2)) + 1])
    sizes = np.diff(half.indptr)
    parts = []
    for start in range(0, len(neighbours), _ROWS):
        some = mutual[start : start + _ROWS]
        shared = (some @ half).multiply(some)
        limits = (2 * sizes[some.indices], some.indices, some.indptr)
        taken = (shared * 3 > sparse.csr_array(limits, shape=some.shape)).astype(np.int32)
        parts.append(((some + taken @ half) > 0).tocsr())
    return sparse.vstack(parts, format="csr")


def encodings(query: Tensor, gallery: Tensor, furthest: Tensor, sets: Sparse) -> Sparse:
    """Weigh the members of each item's set by ``exp(-d)`` (eq. 7), each row summing to 1."""
    items = len(query) + len(gallery)
    rows = np.repeat(np.arange(items), np.diff(sets.indptr))
    step = max(1, _BLOCK_BYTES // (query.element_size() * max(query.shape[1], 1)))
    weights = []
    for start in range(0, len(rows), step):
        row = torch.from_numpy(rows[start : start + step]).to(query.device)
        member = torch.from_numpy(sets.indices[start : start + step]).to(query.device)
        cosines = (_of(query, gallery, row) * _of(query, gallery, member)).sum(dim=1)
        weights.append(torch.exp(-_squared(cosines) / furthest[row]).cpu())
    data = torch.cat(weights).numpy()
    sums = np.bincount(rows, weights=data, minlength=items)
    data = (data / sums[rows]).astype(data.dtype)
    return sparse.csr_array((data, sets.indices, sets.indptr), shape=sets.shape)


def _of(query: Tensor, gallery: Tensor, items: Tensor) -> Tensor:
    """Give the features (M, D) of `items` (M,), the queries counted first."""
    searched = items < len(query)
    result = query.new_empty(len(items), query.shape[1])
    result[searched] = query[items[searched]]
    result[~searched] = gallery[items[~searched] - len(query)]
    return result


def _squared(cosines: Tensor) -> Tensor:
    """Squared Euclidean distance of unit vectors from their cosine."""
    return (2 - 2 * cosines).clamp(min=0)


def _relation(neighbours: Indices) -> Sparse:
    """Give (N, N) ones where the column's item is among the row's neighbours."""
    items, each = neighbours.shape
    start = np.arange(items + 1) * each
    ones = np.ones(items * each, np.int32)
    return sparse.csr_array((ones, neighbours.reshape(-1), start), shape=(items, items))


def _mutual(neighbours: Indices) -> Sparse:
    """Give (N, N) ones where both items are among the other's neighbours."""
    relation = _relation(neighbours)
    return relation.multiply(relation.T.tocsr()).tocsr()


def _jaccard(some: Sparse, by_column: Sparse) -> npt.NDArray[Any]:
    """Give the Jaccard distances (R, N) of the encodings `some` (R, N) from all (N, N)."""
    result = np.empty(some.shape, by_column.dtype)
    starts, ends = by_column.indptr[:-1], by_column.indptr[1:]
    for index in range(some.shape[0]):
        part = slice(some.indptr[index], some.indptr[index + 1])
        columns, values = some.indices[part], some.data[part]
        spans = [slice(starts[column], ends[column]) for column in columns]
        items = np.concatenate([by_column.indices[span] for span in spans])
        smaller = np.concatenate(
            [
                np.minimum(by_column.data[span], value)
                for span, value in zip(spans, values, strict=True)
            ]
        )
        shared = np.bincount(items, weights=smaller, minlength=some.shape[1])
        result[index] = 1 - shared / (2 - shared)
    return result
