"""A ranking summed up."""

import math

import pytest
import torch

from ffreid.reid.retrieval.protocols import STANDARD, label_columns
from ffreid.reid.retrieval.ranking import rank
from ffreid.reid.retrieval.scores import Scores, scores

# One query, five items of its identity or another's; the values were recorded from Simple-CCReID.
RECORDED = {"general": (1.0, 0.8055555555555556), "SC": (1.0, 1.0), "CC": (0.0, 0.5833333333333333)}
IDENTITY, QUERY_CAMERA, QUERY_CLOTHES = 1, 0, 10
IDENTITIES = [1, 1, 2, 1, 1]
CAMERAS = [0, 1, 1, 1, 2]
CLOTHES = [10, 10, 20, 11, 11]
DISTANCES = [0.1, 0.2, 0.3, 0.4, 0.5]


def rows(identity: int) -> list[Scores]:
    query = label_columns(identity=[identity], camera=[QUERY_CAMERA], clothes=[QUERY_CLOTHES])
    gallery = label_columns(identity=IDENTITIES, camera=CAMERAS, clothes=CLOTHES)
    found = rank(torch.tensor([DISTANCES]), query, gallery, STANDARD)
    return [scores(ranking, query["identity"]) for ranking in found]


@pytest.mark.parametrize("index", range(3))
def test_recorded_rank1_and_precision(index: int) -> None:
    row = rows(IDENTITY)[index]
    assert (row.cmc[1], row.mean_average_precision) == pytest.approx(RECORDED[row.name], abs=1e-12)


def test_row_without_valid_query_has_no_values_and_says_how_many_were_skipped() -> None:
    row = rows(99)[0]
    assert (row.n_valid, row.n_skipped, row.rank1_interval) == (0, 1, None)
    assert math.isnan(row.cmc[20])


def test_intervals_enclose_the_mean() -> None:
    row = rows(IDENTITY)[0]
    assert row.precision_interval is not None
    low, high = row.precision_interval
    assert low <= row.mean_average_precision + 1e-12
    assert high >= row.mean_average_precision - 1e-12
