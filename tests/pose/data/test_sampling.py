"""Which pixels become points."""

import numpy as np
import pytest

from ffreid.pose.data.sample import choose_points


def test_the_choice_is_the_recorded_one() -> None:
    chosen = choose_points(np.arange(12288), 1024, np.random.RandomState(3002))
    assert chosen[:6].tolist() == [10650, 515, 11950, 8512, 2176, 2733]
    assert int(chosen.sum()) == 6327375


def test_no_pixel_is_chosen_twice_while_there_are_enough() -> None:
    valid = np.arange(0, 900, 3)
    chosen = choose_points(valid, 200, np.random.RandomState(0))
    assert len(set(chosen.tolist())) == 200
    assert set(chosen.tolist()) <= set(valid.tolist())


@pytest.mark.parametrize("count", [5, 7, 12])
def test_too_few_pixels_are_repeated_from_the_start(count: int) -> None:
    chosen = choose_points(np.array([2, 4, 8, 16, 32]), count, np.random.RandomState(0))
    expected = np.resize([2, 4, 8, 16, 32], count)
    assert chosen.dtype == np.int32
    assert sorted(chosen.tolist()) == sorted(expected.tolist())


def test_the_order_is_random() -> None:
    chosen = choose_points(np.arange(100), 100, np.random.RandomState(0))
    assert (np.diff(chosen) < 0).any()
