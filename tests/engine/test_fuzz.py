"""Damaged checkpoints are refused with a hint or are valid; more of them: tests/fuzz.py."""

import resource
from pathlib import Path

import pytest

from tests import fuzz

COUNT = 210


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_checkpoints_are_refused_or_valid(tmp_path: Path, seed: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz.run_cases(seed, range(COUNT), tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert sum(outcomes.values()) == COUNT
    assert 0 < outcomes["valid"] < COUNT // 2
    assert grown < fuzz.MEGABYTES
