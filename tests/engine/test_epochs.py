"""An epoch's means are those of its steps."""

from dataclasses import asdict

import pytest

from ffreid.engine.train_step import AverageMeter, timed


def test_terms_are_averaged_and_waiting_is_summed() -> None:
    sums = AverageMeter()
    sums.add({"a": 1.0, "b": 2.0}, waited=0.5, seconds=2.0)
    sums.add({"a": 3.0, "b": 2.0}, waited=0.25, seconds=1.0)
    assert sums.means() == {"a": 2.0, "b": 2.0}
    assert (sums.steps, sums.waited, sums.seconds) == (2, 0.75, 3.75)


def test_an_interrupted_epoch_goes_on() -> None:
    whole, first = AverageMeter(), AverageMeter()
    for sums in (whole, first):
        sums.add({"a": 1.0}, waited=0.5, seconds=2.0)
    second = AverageMeter(**asdict(first))
    for sums in (whole, second):
        sums.add({"a": 2.0}, waited=0.5, seconds=1.0)
    assert second == whole
    assert first.steps == 1


def test_only_the_wait_for_a_batch_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0])  # asked, had; asked again after a long step, had
    monkeypatch.setattr("ffreid.engine.train_step.time.monotonic", lambda: next(clock))
    assert list(timed(iter("ab"))) == [("a", 2.0), ("b", 1.0)]
