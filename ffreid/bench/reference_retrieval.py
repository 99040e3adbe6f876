"""Reference retrieval: ranking by sorting and loops, re-ranking by the dense formula."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffreid.reid.retrieval.protocols import Labels, Protocol, filter_mask, match_masks
from ffreid.reid.retrieval.reranking import K1, K2, WEIGHT

Array = npt.NDArray[Any]


def reference_rerank(
    features: Array, queries: int, *, k1: int = K1, k2: int = K2, weight: float = WEIGHT
) -> Array:
    """Re-rank by the formula of Zhong et al. (CVPR 2017) with dense encodings of all items.

    `features` (Q + G, D) have length 1 and begin with the queries; `k1`, `k2` and `weight` are
    those of `rerank`. Returns distances (Q, G).
    """
    squared = 2 - 2 * features @ features.T
    np.fill_diagonal(squared, 0)
    distances = squared / squared.max(axis=0)[:, None]
    order = np.argsort(distances, axis=1, kind="stable")
    codes = np.zeros_like(distances)
    for item in range(len(features)):
        index = sorted(_expanded(order, item, k1))
        codes[item, index] = np.exp(-distances[item, index])
        codes[item] /= codes[item].sum()
    codes = np.stack([codes[order[item, :k2]].mean(axis=0) for item in range(len(features))])
    result = []
    for item in range(queries):
        shared = np.minimum(codes[item], codes[queries:]).sum(axis=1)
        jaccard = 1 - shared / (2 - shared)
        result.append((1 - weight) * jaccard + weight * distances[item, queries:])
    return np.array(result)


def _expanded(order: npt.NDArray[np.int64], item: int, k1: int) -> set[int]:
    """Return an item's mutual neighbours, with those of members that share most of theirs."""
    first = _mutual(order, item, k1 + 1)
    expanded = set(first)
    for member in first:
        further = _mutual(order, member, round(k1 / 2) + 1)
        if len(further & first) > 2 / 3 * len(further):
            expanded |= further
    return expanded


def _mutual(order: npt.NDArray[np.int64], item: int, count: int) -> set[int]:
    return {int(other) for other in order[item, :count] if item in order[other, :count]}


class ReferenceRanking(NamedTuple):
    """CMC at 1, 2, …, G of the gallery items used, and two values for each query with a match.

    They are average precision, and as `penalty` the number of matches over the rank of the last.
    `n_skipped` queries have no match; if all are such, the curve is NaN.
    """

    curve: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    penalty: npt.NDArray[np.float64]
    n_skipped: int


def reference_rank(
    distances: Tensor, query: Labels, gallery: Labels, protocol: Protocol
) -> ReferenceRanking:
    """Rank every query's gallery under one protocol by sorting the rows of `distances` (Q, G)."""
    takes_part = filter_mask(query, protocol.queries).numpy()
    kept = filter_mask(gallery, protocol.gallery)
    items = {name: values[kept] for name, values in gallery.items()}
    values = distances[:, kept].numpy()
    order = np.argsort(values, axis=1, kind="stable")
    curve = np.zeros(values.shape[1])
    precision, penalty = [], []
    for index in np.flatnonzero(takes_part):
        row = {name: column[index : index + 1] for name, column in query.items()}
        good, junk = (mask[0].numpy()[order[index]] for mask in match_masks(protocol, row, items))
        places = np.flatnonzero(good[~junk])
        if not len(places):
            continue
        curve[places[0] :] += 1
        precision.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        penalty.append(len(places) / (places[-1] + 1))
    valid = len(precision)
    return ReferenceRanking(
        curve=curve / valid if valid else np.full_like(curve, np.nan),
        precision=np.array(precision),
        penalty=np.array(penalty),
        n_skipped=int(takes_part.sum()) - valid,
    )
