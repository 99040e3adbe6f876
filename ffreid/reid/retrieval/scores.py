"""Scores of a ranking, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffreid.reid.retrieval.ranking import Ranking

Interval = tuple[float, float] | None
RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a protocol, from 0 to 1; NaN if no query is valid.

    `cmc` is the fraction of the valid queries with a match among the first k, by k. The 95 %
    intervals, of rank-1 and of mAP, are None if no query is valid.
    """

    name: str
    cmc: dict[int, float]
    mean_average_precision: float
    mean_inverse_penalty: float
    n_valid: int
    n_skipped: int
    rank1_interval: Interval
    precision_interval: Interval


def scores(ranking: Ranking, identities: Tensor, *, ranks: Sequence[int] = RANKS) -> Scores:
    """Score a ranking; `identities` (Q,) of the queries are resampled for the intervals."""
    valid = ranking.valid
    valid_identities = identities.cpu()[valid].numpy()
    hits = (ranking.first[valid] == 1).double().numpy()
    return Scores(
        name=ranking.name,
        cmc={k: ranking.cmc(k) for k in ranks},
        mean_average_precision=ranking.mean_average_precision,
        mean_inverse_penalty=ranking.mean_inverse_penalty,
        n_valid=ranking.n_valid,
        n_skipped=ranking.n_skipped,
        rank1_interval=interval(hits, valid_identities),
        precision_interval=interval(ranking.precision[valid].numpy(), valid_identities),
    )


DRAWS = 1000
_DRAWS_AT_ONCE = 100


def interval(
    values: npt.NDArray[np.float64],
    identities: npt.NDArray[np.int64],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of the mean of `values` (N,) by the percentile bootstrap; None without values.

    Identities are drawn with replacement, each with all its queries, as images of one person are
    not independent (Efron and Tibshirani 1993, chapter 8).
    """
    if not len(values):
        return None
    _, group = np.unique(identities, return_inverse=True)
    sums = np.bincount(group, weights=values)
    counts = np.bincount(group)
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        uniform = np.full(len(counts), 1 / len(counts))
        times = generator.multinomial(len(counts), uniform, size=size)
        means.append((times @ sums) / (times @ counts))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
