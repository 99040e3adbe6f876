"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) with sparse encodings.

Only the neighbours of each item are stored: memory is linear in the number of items. The order of
neighbours at exactly the same distance is undefined.
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
    """Re-ranked distances of unit features (Q, D) and (G, D), by rows of queries.

    The distance is ``weight * d + (1 - weight) * jaccard`` (eq. 12), where d is the squared
    Euclidean distance over the query's largest one, and jaccard the Jaccard distance of the
    weighted k-reciprocal neighbours (eq. 7 to 10), among `k1`. The encodings of the `k2` nearest
    items are averaged; `weight` is lambda.
    """
    count, items = len(query), len(query) + len(gallery)
    neighbours, furthest = nearest(query, gallery, min(max(k1 + 1, k2), items))
    sets = expanded_sets(neighbours, k1)
    codes = encodings(query, gallery, furthest, sets)
    if k2 != 1:
        codes = _relation(neighbours[:, :k2]).astype(codes.dtype) @ codes / min(k2, items)
    by_column = codes.tocsc()

    def rows(start: int, stop: int) -> Tensor:
        original = _squared(query[start:stop] @ gallery.T) / furthest[start:stop, None]
        jaccard = _jaccard(codes[start:stop], by_column)[:, count:]
        return weight * original + (1 - weight) * torch.from_numpy(jaccard).to(original)

    return rows


def nearest(query: Tensor, gallery: Tensor, count: int) -> tuple[Indices, Tensor]:
    """Find each item's `count` nearest items (N, count), and its largest squared distance (N,).

    The N items are the queries, then the gallery; they are not copied to one tensor, which would
    need most of the memory with 4,096 dimensions. The nearest is the item itself.
    """
    block = max(1, _BLOCK_BYTES // (query.element_size() * max(len(query) + len(gallery), 1)))
    indices, furthest = [], []
    for part in (*torch.split(query, block), *torch.split(gallery, block)):
        if not len(part):
            continue
        cosines = torch.cat([part @ query.T, part @ gallery.T], dim=1)
        indices.append(cosines.topk(count, dim=1).indices.cpu())
        furthest.append(_squared(cosines.amin(dim=1)))
    return torch.cat(indices).numpy(), torch.cat(furthest)


def expanded_sets(neighbours: Indices, k1: int) -> Sparse:
    """K-reciprocal sets R* (N, N), each expanded by those of its members (eq. 5).

    A member's set for k1 / 2 is added if more than two thirds of it are in the set.
    """
    mutual = _mutual(neighbours[:, : k1 + 1])
    half = _mutual(neighbours[:, : int(np.around(k1 / 2)) + 1])
    sizes = np.diff(half.indptr)
    parts = []
    for start in range(0, len(neighbours), _ROWS):
        rows = mutual[start : start + _ROWS]
        shared = (rows @ half).multiply(rows)
        limits = (2 * sizes[rows.indices], rows.indices, rows.indptr)
        added = (shared * 3 > sparse.csr_array(limits, shape=rows.shape)).astype(np.int32)
        parts.append(((rows + added @ half) > 0).tocsr())
    return sparse.vstack(parts, format="csr")


def encodings(query: Tensor, gallery: Tensor, furthest: Tensor, sets: Sparse) -> Sparse:
    """Weight the members of each item's set by ``exp(-d)`` (eq. 7), with rows that sum to 1."""
    items = len(query) + len(gallery)
    rows = np.repeat(np.arange(items), np.diff(sets.indptr))
    step = max(1, _BLOCK_BYTES // (query.element_size() * max(query.shape[1], 1)))
    weights = []
    for start in range(0, len(rows), step):
        row = torch.from_numpy(rows[start : start + step]).to(query.device)
        member = torch.from_numpy(sets.indices[start : start + step]).to(query.device)
        cosines = (_select(query, gallery, row) * _select(query, gallery, member)).sum(dim=1)
        weights.append(torch.exp(-_squared(cosines) / furthest[row]).cpu())
    data = torch.cat(weights).numpy()
    sums = np.bincount(rows, weights=data, minlength=items)
    data = (data / sums[rows]).astype(data.dtype)
    return sparse.csr_array((data, sets.indices, sets.indptr), shape=sets.shape)


def _select(query: Tensor, gallery: Tensor, items: Tensor) -> Tensor:
    """Features (M, D) of `items` (M,), numbered from the queries to the gallery."""
    is_query = items < len(query)
    result = query.new_empty(len(items), query.shape[1])
    result[is_query] = query[items[is_query]]
    result[~is_query] = gallery[items[~is_query] - len(query)]
    return result


def _squared(cosines: Tensor) -> Tensor:
    """Squared Euclidean distance of unit vectors from their cosine."""
    return (2 - 2 * cosines).clamp(min=0)


def _relation(neighbours: Indices) -> Sparse:
    """(N, N) ones where the column's item is a neighbour of the row's."""
    items, count = neighbours.shape
    start = np.arange(items + 1) * count
    ones = np.ones(items * count, np.int32)
    return sparse.csr_array((ones, neighbours.reshape(-1), start), shape=(items, items))


def _mutual(neighbours: Indices) -> Sparse:
    """(N, N) ones where two items are neighbours of each other."""
    relation = _relation(neighbours)
    return relation.multiply(relation.T.tocsr()).tocsr()


def _jaccard(rows: Sparse, by_column: Sparse) -> npt.NDArray[Any]:
    """Jaccard distances (R, N) of the encodings `rows` (R, N) to all (N, N)."""
    result = np.empty(rows.shape, by_column.dtype)
    starts, ends = by_column.indptr[:-1], by_column.indptr[1:]
    for index in range(rows.shape[0]):
        part = slice(rows.indptr[index], rows.indptr[index + 1])
        columns, values = rows.indices[part], rows.data[part]
        spans = [slice(starts[column], ends[column]) for column in columns]
        items = np.concatenate([by_column.indices[span] for span in spans])
        found = np.concatenate([by_column.data[span] for span in spans])
        smaller = np.minimum(found, np.repeat(values, ends[columns] - starts[columns]))
        shared = np.bincount(items, weights=smaller, minlength=rows.shape[1])
        result[index] = 1 - shared / (2 - shared)
    return result
