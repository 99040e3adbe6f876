"""Sparse re-ranking against the dense formula of the paper."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.bench.reference_retrieval import reference_rerank
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import GENERAL, label_columns
from ffreid.reid.retrieval.ranking import rank
from ffreid.reid.retrieval.reranking import rerank


def clusters(items: int, identities: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(identities, 16, generator=generator, dtype=torch.float64)
    labels = torch.randint(identities, (items,), generator=generator)
    noise = torch.randn(items, 16, generator=generator, dtype=torch.float64)
    return unit(centres[labels] + 0.7 * noise)


@pytest.mark.parametrize(
    ("items", "queries", "k1", "k2", "weight"),
    [(200, 20, 20, 6, 0.3), (150, 30, 7, 1, 0.0), (40, 5, 15, 20, 0.6), (2000, 60, 20, 6, 0.3)],
)
def test_distances_equal_the_dense_formula(
    items: int, queries: int, k1: int, k2: int, weight: float
) -> None:
    features = clusters(items, max(items // 20, 2), seed=items)
    distances = rerank(features[:queries], features[queries:], k1=k1, k2=k2, weight=weight)
    expected = reference_rerank(features.numpy(), queries, k1=k1, k2=k2, weight=weight)
    rows = torch.cat([distances(0, 3), distances(3, queries)])
    np.testing.assert_allclose(rows.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("items", [2, 3, 8])
def test_galleries_smaller_than_the_neighbourhood_are_ranked(items: int) -> None:
    features = clusters(items, 2, seed=items)
    query = label_columns(identity=[1], camera=[0])
    gallery = label_columns(identity=[1] * (items - 1), camera=[1] * (items - 1))
    result = rank(rerank(features[:1], features[1:]), query, gallery, [GENERAL])[0]
    assert result.mean_average_precision == 1.0
