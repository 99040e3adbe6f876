"""Freed memory is kept where libc is glibc, and only in the block."""

import platform

import pytest
import torch

from ffreid.engine.memory import keep_freed

resource = pytest.importorskip("resource")  # not on Windows


def faults() -> int:
    """Pages that 30 tensors of 64 MiB, each freed before the next, take from the system."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        torch.ones(2**24)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_pages_are_taken_again_outside_the_block_only() -> None:
    outside = faults()
    with keep_freed():
        faults()
        assert faults() < outside / 6
    assert faults() > outside / 6  # all, but for what the heap still has


def test_the_block_runs_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with keep_freed():
        assert float(torch.ones(4).sum()) == 4
