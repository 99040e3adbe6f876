"""The straightforward evaluator: a stable argsort and a Python loop for each protocol."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffreid.reid.retrieval.protocols import Labels, Protocol, chosen, masks


@dataclass(frozen=True, kw_only=True)
class PlainRanking:
    """What a protocol gives: a value for each valid query, in the queries' order.

    Attributes:
        curve: (G,) CMC at 1, 2, …, G of the gallery that takes part; NaN if no query is valid.
        precision: average precision of the valid queries.
        penalty: matches over the last one's rank of the valid queries.
        n_skipped: queries that take part and have no match.
    """

    curve: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    penalty: npt.NDArray[np.float64]
    n_skipped: int


def plain_rank(
    distances: Tensor, query: Labels, gallery: Labels, protocol: Protocol
) -> PlainRanking:
    """Rank every query's gallery under one protocol by sorting whole rows of `distances` (Q, G)."""
    takes_part = chosen(query, protocol.queries).numpy()
    kept = chosen(gallery, protocol.gallery)
    items = {name: values[kept] for name, values in gallery.items()}
    values = distances[:, kept].numpy()
    order = np.argsort(values, axis=1, kind="stable")
    curve = np.zeros(values.shape[1])
    precision, penalty = [], []
    for index in np.flatnonzero(takes_part):
        row = {name: column[index : index + 1] for name, column in query.items()}
        good, junk = (mask[0].numpy()[order[index]] for mask in masks(protocol, row, items))
        places = np.flatnonzero(good[~junk])
        if not len(places):
            continue
        curve[places[0] :] += 1
        precision.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        penalty.append(len(places) / (places[-1] + 1))
    valid = len(precision)
    return PlainRanking(
        curve=curve / valid if valid else np.full_like(curve, np.nan),
        precision=np.array(precision),
        penalty=np.array(penalty),
        n_skipped=int(takes_part.sum()) - valid,
    )
