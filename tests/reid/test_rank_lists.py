"""Which queries are drawn, and which of the gallery stands in their lists."""

from dataclasses import replace

import pytest
import torch

from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, Protocol, between
from ffreid.reid.retrieval.ranking import Ranking
from ffreid.reid.scoring import score_protocols
from ffreid.reid.visualization import evenly_spread_queries, row_to_draw, top_matches
from tests.reid.synthetic_features import labelled_features, synthetic_features

CPU = torch.device("cpu")
AXIS = torch.eye(2)[:1]
# Nearest first: junk (same camera), another person, same clothes, other clothes.
TURNS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])


@pytest.fixture
def search() -> ExtractedFeatures:
    return replace(
        synthetic_features(),
        query=labelled_features(AXIS, [1], [0], [5], "query"),
        gallery=labelled_features(TURNS, [1, 2, 1, 1], [0, 1, 1, 2], [5, 7, 5, 6], "gallery"),
    )


def ranking(precision: list[float]) -> Ranking:
    values = torch.tensor(precision, dtype=torch.float64)
    first = torch.where(values.isnan(), 0, 1)
    return Ranking(
        name="CC",
        participates=torch.ones(len(values), dtype=torch.bool),
        first=first,
        precision=values,
        penalty=values,
    )


@pytest.mark.parametrize(
    ("protocol", "items", "good"),
    [
        (GENERAL, [1, 2, 3], [False, True, True]),
        (CLOTHES_CHANGING, [1, 3], [False, True]),
        (between("far", (0,), (2,)), [3], [True]),
    ],
    ids=lambda value: value.name if isinstance(value, Protocol) else "",
)
def test_a_list_is_in_order_and_without_what_the_protocol_leaves_out(
    search: ExtractedFeatures, protocol: Protocol, items: list[int], good: list[bool]
) -> None:
    found, matches, distances = top_matches(search, protocol, 0)
    assert (found, matches) == (items, good)
    assert distances == pytest.approx([1 - float(TURNS[item, 0]) for item in items])


def test_a_list_ends_where_it_is_told_to(search: ExtractedFeatures) -> None:
    assert top_matches(search, GENERAL, 0, length=2)[0] == [1, 2]


def test_the_list_agrees_with_the_ranking() -> None:
    whole = synthetic_features()
    for row in score_protocols(whole, CPU):
        assert row.ranking is not None
        protocol = next(one for one in whole.protocols if one.name == row.protocol)
        for query in range(len(whole.query)):
            _, good, _ = top_matches(whole, protocol, query, length=len(whole.gallery))
            assert int(row.ranking.first[query]) == (good.index(True) + 1 if any(good) else 0)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [3]), (2, [3, 0]), (3, [3, 4, 0]), (9, [3, 1, 4, 2, 0])]
)
def test_queries_are_spread_from_the_worst_to_the_best(count: int, chosen: list[int]) -> None:
    found = ranking([1.0, 0.2, 0.7, 0.1, 0.5, torch.nan])
    assert evenly_spread_queries(found, count) == chosen


def test_clothes_changing_is_shown_where_there_is_such_a_row() -> None:
    rows = score_protocols(synthetic_features(), CPU)
    shown = row_to_draw(rows)
    assert shown is not None and shown.protocol == "CC"
    first = row_to_draw(rows[:2])
    assert first is not None and first.protocol == "general"


def test_no_row_is_shown_where_no_query_has_a_match(search: ExtractedFeatures) -> None:
    strangers = replace(search, query=labelled_features(AXIS, [9], [0], [5], "query"))
    assert row_to_draw(score_protocols(strangers, CPU)) is None
