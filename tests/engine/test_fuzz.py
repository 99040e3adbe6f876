"""Spoilt checkpoints are refused in two lines or read soundly; more of them: tests/fuzz.py."""

import resource
from pathlib import Path

import pytest

from tests import fuzz

COUNT = 420


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_checkpoints_are_refused_or_sound(tmp_path: Path, seed: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz.tries(seed, range(COUNT // 2), tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert sum(outcomes.values()) == COUNT // 2
    assert 0 < outcomes["sound"] < COUNT // 4
    assert grown < fuzz.MEGABYTES
