"""Times and memory of a call; speed itself is not tested."""

import sys
from collections.abc import Callable

import pytest

from ffreid.engine.timing import measure_alone, milliseconds


@pytest.mark.parametrize(("repeats", "expected"), [(3, 4), (1, 1)])
def test_several_repeats_are_warmed_up_once(repeats: int, expected: int) -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(1), repeats) >= 0
    assert len(calls) == expected


def filling(before: int, megabytes: int, retained: int) -> Callable[[], object]:
    """Fill and drop `before` MB, keep `retained`, and return a call that fills `megabytes`."""
    filled(before)
    rest = filled(retained)
    return lambda: (filled(megabytes), len(rest))


def filled(megabytes: int) -> bytes:
    return b"x" * (megabytes << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="no memory figures")
def test_memory_is_what_a_call_adds_in_a_fresh_process() -> None:
    parent = filled(300)  # does not count
    cost = measure_alone(filling, 200, 100, 50)
    assert len(parent) == 300 << 20
    assert cost.milliseconds > 0
    assert cost.megabytes is not None
    assert 99 < cost.megabytes < 110
