"""Scores of a ranking, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ffreid.engine.bootstrap import interval
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
