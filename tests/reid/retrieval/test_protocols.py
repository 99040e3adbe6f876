"""Matches and junk of each protocol, and protocols without their columns."""

import pytest

from ffreid.reid.retrieval.protocols import (
    CLOTHES_CHANGING,
    GENERAL,
    SAME_CLOTHES,
    STANDARD,
    Protocol,
    filter_mask,
    label_columns,
    match_masks,
    usable_protocols,
)

QUERY = label_columns(identity=[1], camera=[0], clothes=[5])
GALLERY = label_columns(identity=[1, 1, 1, 1, 2], camera=[0, 0, 1, 1, 1], clothes=[5, 6, 5, 6, 5])


@pytest.mark.parametrize(
    ("protocol", "good", "junk"),
    [
        (GENERAL, [2, 3], [0, 1]),
        (SAME_CLOTHES, [2], [0, 1, 3]),
        (CLOTHES_CHANGING, [3], [0, 1, 2]),
        (Protocol(name="any", other=()), [0, 1, 2, 3], []),
    ],
    ids=lambda value: value.name if isinstance(value, Protocol) else "",
)
def test_matches_and_junk(protocol: Protocol, good: list[int], junk: list[int]) -> None:
    result = [mask[0].nonzero().view(-1).tolist() for mask in match_masks(protocol, QUERY, GALLERY)]
    assert result == [good, junk]


def test_protocols_without_their_columns_are_removed() -> None:
    columns = {name: values for name, values in GALLERY.items() if name != "clothes"}
    assert usable_protocols(STANDARD, QUERY, columns) == (
        [GENERAL],
        {"SC": ["clothes"], "CC": ["clothes"]},
    )


def test_a_filter_selects_its_values() -> None:
    choice = (("camera", (1,)), ("clothes", (6, 7)))
    assert filter_mask(GALLERY, choice).tolist() == [False, False, False, True, False]
