"""Rank lists as pictures: order, borders, labels, sizes."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.reid.data.records import Record
from ffreid.reid.draw import (
    MATCH,
    MISS,
    QUERY,
    caption,
    draw_rank_list,
    draw_sheet,
    shown_frame,
)

Picture = npt.NDArray[np.uint8]


def plain(red: int, green: int, blue: int, height: int = 64, width: int = 32) -> Picture:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


FOUND = [plain(10, 90, 200), plain(200, 10, 90), plain(90, 200, 10)]
ASKED = plain(120, 120, 20)


def drawn(count: int = 3, good: tuple[bool, ...] = (True, False, True), **rest: str) -> Picture:
    return draw_rank_list(
        ASKED,
        FOUND[:count],
        good=good[:count],
        scores=[0.1, 0.2, 0.3][:count],
        labels=["identity 1\ncamera 2"] * count,
        **rest,
    )


def columns(picture: Picture, colour: tuple[int, ...]) -> list[int]:
    """Give the columns in which the colour occurs."""
    return np.flatnonzero((picture == colour).all(axis=-1).any(axis=0)).tolist()


def test_pictures_stand_in_the_search_s_order_the_query_first() -> None:
    picture = drawn()
    places = [columns(picture, tuple(each[0, 0])) for each in (ASKED, *FOUND)]
    assert all(places)
    assert places == sorted(places)
    assert all(left[-1] < right[0] for left, right in pairwise(places))


def test_borders_tell_matches_from_others() -> None:
    picture = drawn()
    first, second, third = (columns(picture, tuple(each[0, 0])) for each in FOUND)
    green, red = columns(picture, MATCH), columns(picture, MISS)
    assert min(green) < first[0] < first[-1] < max(green)
    assert min(red) < second[0] < second[-1] < max(red) < third[0] < max(green)
    query = columns(picture, tuple(ASKED[0, 0]))
    white = columns(picture[: len(picture) // 2], QUERY)
    assert white[0] < query[0] < query[-1] < white[-1] < first[0]


@pytest.mark.parametrize("good", [True, False])
def test_one_kind_of_result_has_one_kind_of_border(good: bool) -> None:
    picture = drawn(good=(good,) * 3)
    assert bool(columns(picture, MATCH)) == good
    assert bool(columns(picture, MISS)) != good


@pytest.mark.parametrize("size", [(256, 128), (20, 60), (60, 20), (1, 1), (300, 40)], ids=str)
def test_pictures_of_any_size_fill_their_tile_and_keep_their_proportions(
    size: tuple[int, int],
) -> None:
    picture = draw_rank_list(plain(9, 99, 199, *size), [], good=[], scores=[])
    inside = (picture == (9, 99, 199)).all(axis=-1)
    height, width = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    assert height == 192 or width == 112
    assert height <= 192
    assert width <= 112
    assert height / width == pytest.approx(size[0] / size[1], rel=0.05)


def test_title_and_labels_are_written_and_long_ones_stay_inside() -> None:
    bare, titled = drawn(), drawn(title="CC: average precision 0.5")
    assert len(titled) > len(bare)
    assert (titled[: len(titled) - len(bare)] > 200).any()
    labelled = drawn(title="t" * 999, label="identity " * 99 + "\nsecond")
    assert labelled.shape[1] == bare.shape[1]
    assert (labelled[-20:, :100] > 200).any()
    assert (labelled[:16, -4:] == 32).all()


def test_an_empty_list_says_so() -> None:
    picture = drawn(count=0)
    assert columns(picture, MATCH) == columns(picture, MISS) == []
    half = picture.shape[1] // 2
    assert (picture[:, half:] > 200).any()


def test_lists_of_unequal_lengths_belong_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        draw_rank_list(ASKED, FOUND, good=[True], scores=[1, 2, 3])


def test_a_sheet_stacks_lists_of_different_lengths() -> None:
    rows = [drawn(), drawn(count=1), drawn(count=0)]
    sheet = draw_sheet(rows)
    assert sheet.shape == (sum(map(len, rows)), rows[0].shape[1], 3)
    np.testing.assert_array_equal(sheet[: len(rows[0])], rows[0])
    second = sheet[len(rows[0]) :][: len(rows[1])]
    np.testing.assert_array_equal(second[:, : rows[1].shape[1]], rows[1])
    assert (second[:, rows[1].shape[1] :] == 32).all()


def test_a_tracklet_is_shown_by_its_middle_frame() -> None:
    frames = tuple("abcde")
    assert shown_frame(Record(frames, 0, 0, 0)) == "c"
    assert shown_frame(Record(frames[:4], 0, 0, 0)) == "c"
    assert shown_frame(Record(frames[:1], 0, 0, 0)) == "a"


def test_a_caption_names_the_known_labels() -> None:
    record = Record(("a",), 12, 3, 45)
    assert caption(record) == "identity 12\ncamera 3\nclothes 45"
    assert caption(record, ()) == "identity 12"
