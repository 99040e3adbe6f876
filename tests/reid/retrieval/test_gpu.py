"""The evaluator on a CUDA device gives what it gives on the CPU."""

import pytest
import torch

from ffreid.bench.reid import random_labels
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.retrieval.ranking import rank

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_rankings_are_those_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = (random_labels(count, 20, 4, generator) for count in (40, 900))
    distances = torch.randn(40, 900, generator=generator)
    left, right = (
        {name: values.cuda() for name, values in side.items()} for side in (query, gallery)
    )
    found = rank(distances.cuda(), left, right, STANDARD)
    for ours, expected in zip(found, rank(distances, query, gallery, STANDARD), strict=True):
        torch.testing.assert_close(ours.first, expected.first)
        torch.testing.assert_close(ours.precision, expected.precision, equal_nan=True)
