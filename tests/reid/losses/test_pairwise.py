"""Losses of pairs against loops."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import PAIRWISE
from ffreid.reid.losses.pairwise import make_pairs

SCALE, MARGIN = 8.0, 0.25
BATCHES = {
    "mixed": [0, 0, 1, 1, 1, 2, 2],
    "one appears once": [0, 0, 1, 1, 1, 1, 2],
    "all once": list(range(7)),
    "all the same": [0] * 7,
}


def features() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 4, generator=generator, dtype=torch.float64)


def softplus_of_products(low: list[float], high: list[float]) -> float:
    return math.log1p(sum(map(math.exp, low)) * sum(map(math.exp, high)))


def triplet(positive: list[float], negative: list[float]) -> float:
    if not negative:
        return 0.0
    hardest = min([*positive, 1.0])
    return max((1.0 - hardest) - (1.0 - max(negative)) + MARGIN, 0.0)


def contrastive(positive: list[float], negative: list[float]) -> float:
    others = sum(math.exp(SCALE * value) for value in negative)
    same = [math.exp(SCALE * value) for value in positive]
    return -sum(math.log(value / (others + value)) for value in same) / len(same)


def cosface(positive: list[float], negative: list[float]) -> float:
    return softplus_of_products(
        [SCALE * (value + MARGIN) for value in negative], [-SCALE * value for value in positive]
    )


def circle(positive: list[float], negative: list[float]) -> float:
    return softplus_of_products(
        [SCALE * max(value + MARGIN, 0.0) * (value - MARGIN) for value in negative],
        [SCALE * max(1 + MARGIN - value, 0.0) * (1 - MARGIN - value) for value in positive],
    )


REFERENCES: dict[str, Callable[[list[float], list[float]], float]] = {
    "triplet": triplet,
    "contrastive": contrastive,
    "cosface": cosface,
    "circle": circle,
}


def by_loops(name: str, rows: Tensor, identities: list[int]) -> float:
    """Mean over the samples that have a term; positives exclude the sample itself."""
    terms = []
    for i, left in enumerate(rows):
        positive, negative = [], []
        for j, right in enumerate(rows):
            cosine = (left @ right / (left.norm() * right.norm())).item()
            if identities[i] != identities[j]:
                negative.append(cosine)
            elif i != j:
                positive.append(cosine)
        if positive or name != "contrastive":
            terms.append(REFERENCES[name](positive, negative))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("identities", BATCHES.values(), ids=list(BATCHES))
def test_loss_equals_loops(name: str, identities: list[int]) -> None:
    pairs = make_pairs(features(), torch.tensor(identities))
    loss = PAIRWISE[name](pairs, scale=SCALE, margin=MARGIN)
    assert loss.item() == pytest.approx(by_loops(name, features(), identities), abs=1e-12)
