"""Rates and validation times at points that follow from their definition."""

import pytest

from ffreid.engine.task import Plan
from ffreid.pose.build import rates
from ffreid.pose.schedules import cosine, halving_momentum, triangular, validation_due
from ffreid.recipes import compose


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1.0), (1, 1.5), (2, 2.0), (4, 3.0), (5, 2.5), (8, 1.0), (12, 3.0)]
)
def test_the_rate_rises_and_falls(step: int, rate: float) -> None:
    assert triangular(step, low=1.0, high=3.0, half_period=4) == rate


def test_the_rate_of_the_authors_run() -> None:
    """Recorded from their scheduler: half cycles of 16,699 steps, 8,349 steps in."""
    rate = triangular(8349, low=1e-5, high=1e-3, half_period=16699)
    assert rate == pytest.approx(0.0005049703575064376, rel=1e-12)


def test_a_run_shorter_than_its_cycles_has_a_rate() -> None:
    rates = [triangular(step, low=1.0, high=2.0, half_period=0) for step in range(3)]
    assert rates == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1.0), (1, 2.0), (2, 3.0), (5, 2.5), (8, 1.5), (11, 1.0), (12, 1.0)]
)
def test_the_rate_warms_up_and_falls_as_half_a_cosine(step: int, rate: float) -> None:
    # From 3 to 1 in 9 steps: a quarter is gone after a third of them, three quarters after two.
    assert cosine(step, low=1.0, high=3.0, warmup=2, total=11) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("schedule", "highest"), [("triangular", [21, 61]), ("cosine", [12])], ids=lambda v: str(v)
)
def test_the_setting_chooses_the_schedule(schedule: str, highest: list[int]) -> None:
    cfg = compose("ycb", pairs=["TRAIN.SCHEDULE", schedule])
    rate = rates(cfg, Plan(batch=24, steps_per_epoch=120, total=120, workers=0))["net"]
    values = [rate(step) for step in range(120)]
    peaks = [step for step in range(1, 119) if values[step - 1] < values[step] > values[step + 1]]
    assert peaks[: len(highest)] == highest
    assert max(values) == pytest.approx(1e-3)


def test_falling_parts_validate_15_times_and_rising_ones_6_times() -> None:
    due = [done for done in range(1, 9001) if validation_due(done, total=9000, windows=2)]
    assert due[:3] == [100, 750, 1500]
    assert [done for done in due if done >= 4500] == list(range(4500, 9001, 300))


def test_a_short_run_validates_after_every_step() -> None:
    due = [validation_due(done, total=3, windows=6) for done in range(4)]
    assert due == [False, True, True, True]


@pytest.mark.parametrize(
    ("step", "momentum"), [(0, 0.9), (66666, 0.9), (66667, 0.45), (133334, 0.225), (800000, 0.01)]
)
def test_momentum_halves_each_200_000_samples(step: int, momentum: float) -> None:
    """Recorded from the authors' schedule at 3 samples per step."""
    assert halving_momentum(step, batch=3) == pytest.approx(momentum, rel=1e-12)
