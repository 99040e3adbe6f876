"""Confidence intervals by resampling."""

import numpy as np
import numpy.typing as npt

DRAWS = 1000
_DRAWS_AT_ONCE = 100


def interval(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.generic],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of the mean of `values` (N,) by the percentile bootstrap; None without values.

    Clusters (N,) are drawn with replacement, each with all its values, as images of one person, or
    objects of one frame, are not independent (Efron and Tibshirani 1993, chapter 8).
    """
    if not len(values):
        return None
    _, group = np.unique(clusters, return_inverse=True)
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
