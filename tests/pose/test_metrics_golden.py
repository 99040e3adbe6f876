"""Distances, areas and rigid fits against values recorded from the original."""

import numpy as np
import pytest

from ffreid.pose.metrics import add, adds, auc
from ffreid.pose.voting.frame import best_fit_transform
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden
METRICS = recordings("ffb6d", "metrics*.npz")


@pytest.mark.parametrize("stem", METRICS)
def test_add_and_adds(stem: str) -> None:
    data, expected = arrays("ffb6d", stem), facts("ffb6d", stem)["add_adds"]
    assert expected
    for index, pair in enumerate(expected):
        predicted, true = data[f"pred{index}"], data[f"gt{index}"]
        actual = add(data["pts"], predicted, true), adds(data["pts"], predicted, true)
        assert actual == pytest.approx(pair, abs=1e-6)


@pytest.mark.parametrize("stem", METRICS)
@pytest.mark.parametrize(("key", "limit"), [("auc", 0.1), ("auc_max005", 0.05)])
def test_area_under_the_curve(stem: str, key: str, limit: float) -> None:
    lists = facts("ffb6d", stem)["auc"]
    assert lists
    actual = {name: auc(case["dis"], limit) for name, case in lists.items()}
    assert actual == pytest.approx({name: case[key] for name, case in lists.items()}, abs=1e-9)


@pytest.mark.parametrize("stem", METRICS)
def test_rigid_fit(stem: str) -> None:
    cases = facts("ffb6d", stem)["best_fit_transform"]
    assert cases
    for case in cases:
        source, target = np.array(case["A"]), np.array(case["B"])
        tolerance = 1e-9 if case["dtype"] == "float64" else 1e-4
        np.testing.assert_allclose(best_fit_transform(source, target), case["T"], atol=tolerance)
