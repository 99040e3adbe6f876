"""Rank lists: queries, gallery items, drawing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, Protocol, between
from ffreid.reid.retrieval.ranking import Ranking
from ffreid.reid.scoring import score_protocols
from ffreid.reid.visualization import (
    MATCH,
    MISS,
    QUERY,
    draw_rank_list,
    draw_sheet,
    evenly_spread_queries,
    row_to_draw,
    top_matches,
)
from tests.reid.synthetic_features import labelled_features, synthetic_features

CPU = torch.device("cpu")
AXIS = torch.eye(2)[:1]
# Nearest first: junk (same camera), another identity, same clothes, other clothes.
GALLERY = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
ImageArray = npt.NDArray[np.uint8]


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
    ],
    ids=lambda value: value.name if isinstance(value, Protocol) else "",
)
def test_top_matches_are_sorted_and_without_junk(
    features: ExtractedFeatures, protocol: Protocol, items: list[int], matches: list[bool]
) -> None:
    top, is_match, distances = top_matches(features, protocol, 0)
    assert (top, is_match) == (items, matches)
    assert distances == pytest.approx([1 - float(GALLERY[item, 0]) for item in items])
    assert top_matches(features, protocol, 0, length=2)[0] == items[:2]


def test_top_matches_agree_with_the_ranking() -> None:
    features = synthetic_features()
    for row in score_protocols(features, CPU):
        assert row.ranking is not None
        protocol = next(p for p in features.protocols if p.name == row.protocol)
        for query in range(len(features.query)):
            _, match, _ = top_matches(features, protocol, query, length=len(features.gallery))
            assert int(row.ranking.first[query]) == (match.index(True) + 1 if any(match) else 0)


@pytest.mark.parametrize(
    ("count", "queries"), [(1, [3]), (2, [3, 0]), (3, [3, 4, 0]), (9, [3, 1, 4, 2, 0])]
)
def test_queries_are_spread_from_the_worst_to_the_best(count: int, queries: list[int]) -> None:
    values = torch.tensor([1.0, 0.2, 0.7, 0.1, 0.5, torch.nan], dtype=torch.float64)
    ranking = Ranking(
        name="CC",
        participates=torch.ones(6, dtype=torch.bool),
        first=torch.where(values.isnan(), 0, 1),
        precision=values,
        penalty=values,
    )
    assert evenly_spread_queries(ranking, count) == queries


def test_clothes_changing_is_drawn_if_it_is_evaluated(features: ExtractedFeatures) -> None:
    rows = score_protocols(synthetic_features(), CPU)
    selected = [row_to_draw(rows), row_to_draw(rows[:2])]
    assert [row and row.protocol for row in selected] == ["CC", "general"]
    no_match = replace(features, query=labelled_features(AXIS, [9], [0], [5], "query"))
    assert row_to_draw(score_protocols(no_match, CPU)) is None


def uniform(red: int, green: int, blue: int, height: int = 64, width: int = 32) -> ImageArray:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


IMAGES = [uniform(10, 90, 200), uniform(200, 10, 90), uniform(90, 200, 10)]
QUERY_IMAGE = uniform(120, 120, 20)


def draw(count: int = 3, match: tuple[bool, ...] = (True, False, True), **texts: str) -> ImageArray:
    return draw_rank_list(
        QUERY_IMAGE,
        IMAGES[:count],
        is_match=match[:count],
        distances=[0.1, 0.2, 0.3][:count],
        labels=["identity 1\ncamera 2"] * count,
        **texts,
    )


def columns(image: ImageArray, colour: tuple[int, ...]) -> list[int]:
    """Columns in which the colour occurs."""
    return np.flatnonzero((image == colour).all(axis=-1).any(axis=0)).tolist()


def test_images_are_in_order_with_green_and_red_borders() -> None:
    rank_list = draw()
    query, first, second, third = (
        columns(rank_list, tuple(image[0, 0])) for image in (QUERY_IMAGE, *IMAGES)
    )
    assert all(a[-1] < b[0] for a, b in pairwise([query, first, second, third]))
    green, red = columns(rank_list, MATCH), columns(rank_list, MISS)
    assert min(green) < first[0] < first[-1] < max(green)
    assert min(red) < second[0] < second[-1] < max(red) < third[0] < max(green)
    white = columns(rank_list[: len(rank_list) // 2], QUERY)
    assert white[0] < query[0] < query[-1] < white[-1] < first[0]


@pytest.mark.parametrize("size", [(256, 128), (20, 60), (60, 20), (1, 1), (300, 40)], ids=str)
def test_images_of_any_size_fill_their_tile_and_keep_their_aspect_ratio(
    size: tuple[int, int],
) -> None:
    rank_list = draw_rank_list(uniform(9, 99, 199, *size), [], is_match=[], distances=[])
    inside = (rank_list == (9, 99, 199)).all(axis=-1)
    height, width = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    assert height == 192 or width == 112
    assert height <= 192
    assert width <= 112
    assert height / width == pytest.approx(size[0] / size[1], rel=0.05)


def test_title_and_labels_are_written_and_long_ones_fit() -> None:
    bare, titled = draw(), draw(title="CC: average precision 0.5")
    assert len(titled) > len(bare)
    assert (titled[: len(titled) - len(bare)] > 200).any()
    labelled = draw(title="t" * 999, label="identity " * 99 + "\nsecond")
    assert labelled.shape[1] == bare.shape[1]
    assert (labelled[-20:, :100] > 200).any()
    assert (labelled[:16, -4:] == 32).all()


def test_invisible_characters_are_written_as_codes() -> None:
    title, label = "a\x1b[31m\n.jpg", "identity 1\ncamera \x07"
    shown = draw(title=r"a\x1b[31m\n.jpg", label="identity 1\ncamera \\x07")
    np.testing.assert_array_equal(draw(title=title, label=label), shown)


def test_a_sheet_stacks_lists_of_different_lengths() -> None:
    rows = [draw(), draw(count=1), draw(count=0)]
    assert columns(rows[2], MATCH) == columns(rows[2], MISS) == []
    assert (rows[2][:, rows[2].shape[1] // 2 :] > 200).any()  # a text
    sheet = draw_sheet(rows)
    assert sheet.shape == (sum(map(len, rows)), rows[0].shape[1], 3)
    np.testing.assert_array_equal(sheet[: len(rows[0])], rows[0])
    second = sheet[len(rows[0]) :][: len(rows[1])]
    np.testing.assert_array_equal(second[:, : rows[1].shape[1]], rows[1])
    assert (second[:, rows[1].shape[1] :] == 32).all()
