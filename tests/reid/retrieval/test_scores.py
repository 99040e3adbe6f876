"""Scores of a ranking, and their intervals."""

import numpy as np
import pytest
import torch

from ffreid.engine.bootstrap import interval
from ffreid.reid.retrieval.protocols import STANDARD, label_columns
from ffreid.reid.retrieval.ranking import rank
from ffreid.reid.retrieval.scores import Scores, scores

# One query and five gallery items; the values were recorded from Simple-CCReID.
RECORDED = {"general": (1.0, 0.8055555555555556), "SC": (1.0, 1.0), "CC": (0.0, 0.5833333333333333)}
GALLERY = {"identity": [1, 1, 2, 1, 1], "camera": [0, 1, 1, 1, 2], "clothes": [10, 10, 20, 11, 11]}


def rows(identity: int) -> list[Scores]:
    query = label_columns(identity=[identity], camera=[0], clothes=[10])
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    rankings = rank(distances, query, label_columns(**GALLERY), STANDARD)
    return [scores(ranking, query["identity"]) for ranking in rankings]


def test_rank1_and_precision_equal_the_recorded() -> None:
    assert [row.name for row in rows(1)] == list(RECORDED)
    for row in rows(1):
        recorded = pytest.approx(RECORDED[row.name], abs=1e-12)
        assert (row.cmc[1], row.mean_average_precision) == recorded
        assert row.precision_interval is not None
        low, high = row.precision_interval
        assert low - 1e-12 <= row.mean_average_precision <= high + 1e-12


def test_interval_equals_drawing_identities_one_by_one() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(30, size=300) * 7
    values = generator.random(300) * 0.3 + labels / 300
    identities, means = np.unique(labels), []
    for _ in range(3000):
        sampled = generator.choice(identities, size=len(identities))
        means.append(np.concatenate([values[labels == identity] for identity in sampled]).mean())
    result = interval(values, labels, draws=3000)
    assert result == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
    assert result == interval(values, labels, draws=3000)
    assert result != interval(values, labels, draws=3000, seed=1)


def test_intervals_of_one_identity_and_of_no_values() -> None:
    assert interval(np.array([0.0, 1.0]), np.array([3, 3])) == (0.5, 0.5)
    assert interval(np.zeros(0), np.zeros(0, np.int64)) is None
