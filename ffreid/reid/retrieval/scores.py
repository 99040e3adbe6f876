"""A ranking as a row of the evaluation table."""

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
    """What one protocol gives; shares lie in 0 to 1 and are NaN where no query is valid.

    Attributes:
        name: the protocol's.
        cmc: share of the valid queries with a match among the first k, by k.
        mean_average_precision: mAP.
        mean_inverse_penalty: mINP.
        n_valid: queries with a match.
        n_skipped: queries without one.
        rank1_interval: 95 % of rank-1; None where no query is valid.
        precision_interval: 95 % of mAP; None where no query is valid.
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
    """Sum a ranking up; `identities` (Q,) are the queries', drawn again for the intervals."""
    valid = ranking.valid
    whose = identities.cpu()[valid].numpy()
    hits = (ranking.first[valid] == 1).double().numpy()
    return Scores(
        name=ranking.name,
        cmc={k: ranking.cmc(k) for k in ranks},
        mean_average_precision=ranking.mean_average_precision,
        mean_inverse_penalty=ranking.mean_inverse_penalty,
        n_valid=ranking.n_valid,
        n_skipped=ranking.n_skipped,
        rank1_interval=interval(hits, whose),
        precision_interval=interval(ranking.precision[valid].numpy(), whose),
    )


DRAWS = 1000
_AT_ONCE = 100


def interval(
    values: npt.NDArray[np.float64],
    identities: npt.NDArray[np.int64],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Give the 95 % interval of the mean of `values` by the percentile bootstrap.

    As many identities as there are, are drawn with replacement; each brings all its queries,
    as pictures of one person are not independent (Efron and Tibshirani 1993, chapter 8).

    Args:
        values: (N,) one for each valid query.
        identities: (N,) whose they are.
        draws: how often to draw.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        The 2.5th and the 97.5th percentile of the draws' means; None where there are no values.
    """
    if not len(values):
        return None
    _, group = np.unique(identities, return_inverse=True)
    sums = np.bincount(group, weights=values)
    counts = np.bincount(group)
    generator = np.random.default_rng(seed)
    means = []
    for done in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - done)
        share = np.full(len(counts), 1 / len(counts))
        times = generator.multinomial(len(counts), share, size=size)
        means.append((times @ sums) / (times @ counts))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
