"""How sure a mean over queries is: intervals by drawing query identities again."""

import numpy as np
import numpy.typing as npt

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
