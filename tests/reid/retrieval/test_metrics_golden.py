"""CMC and mAP against the recorded values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, SAME_CLOTHES, label_columns
from ffreid.reid.retrieval.ranking import Ranking, rank
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden
METRICS = recordings("ccreid", "metrics.npz")
PROTOCOLS = {"general": GENERAL, "SC": SAME_CLOTHES, "CC": CLOTHES_CHANGING}
Arrays = dict[str, npt.NDArray[Any]]


def labels(data: Arrays, case: str, side: str) -> dict[str, Tensor]:
    names = {"identity": "pids", "camera": "cams", "clothes": "clothes"}
    return label_columns(**{name: data[f"{case}/{side}_{key}"] for name, key in names.items()})


def assert_equal_to_recorded(actual: Ranking, expected: dict[str, Any]) -> None:
    curve = [actual.cmc(k) for k in range(1, len(expected["cmc"]) + 1)]
    np.testing.assert_allclose(curve, expected["cmc"], rtol=0, atol=1e-9)
    assert actual.mean_average_precision == pytest.approx(expected["mAP"], abs=1e-9)
    if "log" in expected:
        skipped = [line for line in expected["log"] if "do not have groundtruth" in line]
        assert actual.n_skipped == sum(int(line.split()[0]) for line in skipped)


@pytest.mark.parametrize("stem", METRICS)
def test_curves_and_precisions_equal_the_recorded(stem: str) -> None:
    data, cases = arrays("ccreid", stem), facts("ccreid", stem)
    complete = [case for case in cases if "results" in cases[case] and f"{case}/q_pids" in data]
    assert complete
    for case in complete:
        results = cases[case]["results"]
        actual = rank(
            torch.from_numpy(data[f"{case}/dist"]),
            labels(data, case, "q"),
            labels(data, case, "g"),
            [PROTOCOLS[name] for name in results],
        )
        for ranking, expected in zip(actual, results.values(), strict=True):
            assert_equal_to_recorded(ranking, expected)


@pytest.mark.parametrize("stem", METRICS)
def test_ties_equal_a_recorded_stable_sort(stem: str) -> None:
    data, results = arrays("ccreid", stem), facts("ccreid", stem)["ties"]["results_stable_argsort"]
    assert results
    for name, expected in results.items():
        sides = labels(data, "ties", "q"), labels(data, "ties", "g")
        distances = torch.from_numpy(data["ties/dist"])
        assert_equal_to_recorded(rank(distances, *sides, [PROTOCOLS[name]])[0], expected)


@pytest.mark.parametrize("stem", METRICS)
def test_without_matches_every_query_is_skipped(stem: str) -> None:
    distances = torch.from_numpy(arrays("ccreid", stem)["edge_none/dist"])
    queries, items = distances.shape
    query = label_columns(identity=[1] * queries, camera=[0] * queries, clothes=[1] * queries)
    gallery = label_columns(identity=[2] * items, camera=[1] * items, clothes=[2] * items)
    for ranking in rank(distances, query, gallery, list(PROTOCOLS.values())):
        assert (ranking.n_valid, ranking.n_skipped) == (0, queries)
        assert np.isnan(ranking.mean_average_precision)
