"""The nearest gallery items of queries: in the order of the ranking, without junk."""

from dataclasses import replace

import pytest
import torch

from ffreid.reid import nearest
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.nearest import nearest_items
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, Protocol, between
from ffreid.reid.scoring import score_protocols
from tests.reid.synthetic_features import labelled_features, synthetic_features

CPU = torch.device("cpu")
AXIS = torch.eye(2)[:1]
# Nearest first: junk (same camera), another person, same clothes, other clothes.
GALLERY = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])


@pytest.fixture
def features() -> ExtractedFeatures:
    return replace(
        synthetic_features(),
        query=labelled_features(AXIS, [1], [0], [5], "query"),
        gallery=labelled_features(GALLERY, [1, 2, 1, 1], [0, 1, 1, 2], [5, 7, 5, 6], "gallery"),
    )


@pytest.mark.parametrize(
    ("protocol", "items", "matches"),
    [
        (GENERAL, [1, 2, 3], [False, True, True]),
        (CLOTHES_CHANGING, [1, 3], [False, True]),
        (between("far", (0,), (2,)), [3], [True]),
        (between("none", (0,), (9,)), [], []),
    ],
    ids=lambda value: value.name if isinstance(value, Protocol) else "",
)
def test_nearest_items_are_sorted_and_without_junk(
    features: ExtractedFeatures, protocol: Protocol, items: list[int], matches: list[bool]
) -> None:
    (by_protocol,) = nearest_items(features, [GENERAL, protocol], [0], CPU)
    found = by_protocol[protocol.name]
    assert (found.items, found.is_match) == (items, matches)
    assert found.cosines == pytest.approx([float(GALLERY[item, 0]) for item in items])
    (first,) = nearest_items(features, [protocol], [0], CPU, length=2)
    assert first[protocol.name].items == items[:2]


@pytest.mark.parametrize("is_tied", [False, True])
def test_nearest_items_agree_with_the_ranking(
    is_tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = synthetic_features()
    if is_tied:  # every third item is the same
        repeated = features.gallery.features[torch.arange(len(features.gallery)) % 3]
        features = replace(features, gallery=replace(features.gallery, features=repeated))
    monkeypatch.setattr(nearest, "_BLOCK_BYTES", 12 * len(features.gallery))  # three queries
    monkeypatch.setattr(nearest, "_CANDIDATES", 2 * len(features.gallery))
    queries = list(range(len(features.query)))
    for row in score_protocols(features, CPU):
        assert row.ranking is not None
        protocol = next(p for p in features.protocols if p.name == row.protocol)
        for length in (3, len(features.gallery)):
            found = nearest_items(features, features.protocols, queries, CPU, length=length)
            for query, by_protocol in zip(queries, found, strict=True):
                match = by_protocol[protocol.name].is_match
                first = int(row.ranking.first[query])
                assert (match.index(True) + 1 if any(match) else 0) in (first, first * (length > 3))
                assert len(match) <= length
