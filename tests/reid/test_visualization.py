"""Rank lists: queries, gallery items, drawing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.reid.retrieval.ranking import Ranking
from ffreid.reid.scoring import score_protocols
from ffreid.reid.visualization import (
    MATCH,
    MISS,
    QUERY,
    caption,
    draw_rank_list,
    draw_sheet,
    evenly_spread_queries,
    row_to_draw,
)
from tests.reid.synthetic_features import labelled_features, synthetic_features

CPU = torch.device("cpu")
ImageArray = npt.NDArray[np.uint8]


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


def test_clothes_changing_is_drawn_if_it_is_evaluated() -> None:
    features = synthetic_features()
    rows = score_protocols(features, CPU)
    drawn = [row_to_draw(rows), row_to_draw(rows[:2])]
    assert [row and row.protocol for row in drawn] == ["CC", "general"]
    stranger = labelled_features(features.query.features[:1], [9], [0], [5], "query")
    no_match = replace(features, query=stranger)
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
        cosines=[0.1, 0.2, 0.3][:count],
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
    rank_list = draw_rank_list(uniform(9, 99, 199, *size), [], is_match=[], cosines=[])
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


def test_captions_have_the_file_and_the_labels_by_their_own_names() -> None:
    names = {"identity": {0: "Zoë"}, "camera": {0: "door"}, "clothes": {0: ""}}
    features = synthetic_features(names=names)
    assert caption(features, features.query, 0) == "0.png\nidentity Zoë\ncamera door"
    assert caption(features, features.gallery, 9).startswith("9.png\nidentity 1\n")
    drawn = [
        draw(label=caption(replace(features, names=n), features.query, 0)) for n in ({}, names)
    ]
    assert not np.array_equal(drawn[0], drawn[1])
    # OpenCV would draw both as question marks.
    assert not np.array_equal(draw(label="Zo\u00eb"), draw(label="Zo\u00e9"))
