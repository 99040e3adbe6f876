"""Intervals of means over queries, drawn by identity."""

import numpy as np
import pytest

from ffreid.reid.retrieval.scores import interval


def by_loop(
    values: np.ndarray, identities: np.ndarray, draws: int, seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    people = np.unique(identities)
    means = []
    for _ in range(draws):
        drawn = generator.choice(people, size=len(people))
        means.append(np.concatenate([values[identities == one] for one in drawn]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def made_up() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    identities = generator.integers(30, size=300) * 7
    return generator.random(300) * 0.3 + identities / 300, identities


def test_interval_is_that_of_drawing_identities_one_by_one() -> None:
    values, identities = made_up()
    found = interval(values, identities, draws=3000)
    assert found == pytest.approx(by_loop(values, identities, 3000, 1), abs=0.01)


def test_same_seed_gives_the_same_interval() -> None:
    assert interval(*made_up()) == interval(*made_up())


def test_another_seed_gives_another_interval() -> None:
    assert interval(*made_up()) != interval(*made_up(), seed=1)


def test_one_identity_has_no_spread() -> None:
    found = interval(np.array([0.0, 1.0]), np.array([3, 3]))
    assert found == (0.5, 0.5)


def test_no_values_have_no_interval() -> None:
    assert interval(np.zeros(0), np.zeros(0, np.int64)) is None
