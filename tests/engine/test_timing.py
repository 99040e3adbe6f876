"""Rows of timings are complete; how fast is not a test's to judge."""

import sys
from collections.abc import Callable

import pytest

from ffreid.engine.timing import measure_alone, milliseconds, row

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell")


def test_a_ratio_is_plain_over_ours() -> None:
    assert row("x", 2.0, 6.0)["ratio"] == 3.0
    assert row("x", 2.0)["ratio"] is None


def test_a_part_has_no_share_of_its_own() -> None:
    assert row("x", 1.0, part=True)["share"] is None


def test_memory_stands_in_the_row_where_it_was_measured() -> None:
    assert row("x", 1.0)["peak MB"] is None
    assert row("x", 1.0, megabytes=2.0)["peak MB"] == 2.0


def test_several_repeats_are_warmed_up_once() -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4
    assert milliseconds(lambda: calls.append(1), 1) >= 0
    assert len(calls) == 5


def filling(before: int, megabytes: int, *, kept: int = 0) -> Callable[[], object]:
    """Fill and drop `before` MB, keep `kept`, and give a call that fills `megabytes`."""
    filled(before)
    rest = filled(kept)
    return lambda: (filled(megabytes), len(rest))


def filled(megabytes: int) -> bytes:
    return b"x" * (megabytes << 20)


@on_linux
def test_memory_of_a_call_alone_is_what_it_adds_to_what_was_held() -> None:
    cost = measure_alone(filling, 200, 100, kept=50)
    assert cost.milliseconds > 0
    assert cost.megabytes is not None
    assert 99 < cost.megabytes < 110


@on_linux
def test_memory_held_by_the_parent_does_not_count() -> None:
    mine = filled(300)
    cost = measure_alone(filling, 0, 40)
    assert len(mine) == 300 << 20
    assert cost.megabytes is not None
    assert 39 < cost.megabytes < 50


def refuse() -> Callable[[], object]:
    raise ValueError("nothing to measure")


def test_what_goes_wrong_in_the_fresh_process_is_raised_here() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        measure_alone(refuse)
