"""Rates, momenta and validation times against those recorded from the original."""

import re
from typing import Any

import pytest

from ffreid.pose.defaults import defaults
from ffreid.pose.schedules import halving_momentum, triangular, validation_due
from tests.golden import facts, recordings

pytestmark = pytest.mark.golden
STEMS = recordings("ffb6d", "schedules.json")


def matching(recorded: dict[str, Any], pattern: str) -> list[tuple[re.Match[str], Any]]:
    """Entries with a fully matching key; at least one."""
    actual = [(m, recorded[key]) for key in recorded if (m := re.fullmatch(pattern, key))]
    assert actual, f"no {pattern} among {list(recorded)}"
    return actual


def rate(step: int, half_period: int) -> float:
    train = defaults().TRAIN
    return triangular(step, low=train.LR_MIN, high=train.LR_MAX, half_period=half_period)


@pytest.mark.parametrize("stem", STEMS)
def test_cycles(stem: str) -> None:
    for match, rows in matching(facts("ffb6d", stem), r"cyclic_step_size_(\d+)"):
        assert len(rows) > 1
        for step, expected in rows:
            at = 0 if step == "constructor" else step
            assert rate(at, int(match[1])) == pytest.approx(expected, rel=1e-9), (match[0], step)


@pytest.mark.parametrize("stem", STEMS)
def test_batch_norm_momenta(stem: str) -> None:
    for match, rows in matching(facts("ffb6d", stem), r"bn_momentum_bs(\d+)"):
        assert rows
        for step, expected in rows:
            actual = halving_momentum(step, batch=int(match[1]))
            assert actual == pytest.approx(expected, rel=1e-12), (match[0], step)


RUN = r"tot_iter=(\d+),clr_div=(\d+)"


@pytest.mark.parametrize("stem", STEMS)
def test_validation_times(stem: str) -> None:
    for match, run in matching(facts("ffb6d", stem)["trainer_runs"], RUN):
        total, windows = int(match[1]), int(match[2])
        due = [
            done
            for done in range(run["n_iterations"] + 1)
            if validation_due(done, total=total, windows=windows)
        ]
        assert due == run["eval_at_iterations"], match[0]


@pytest.mark.parametrize("stem", STEMS)
def test_the_rate_lags_one_step_behind_the_cycle(stem: str) -> None:
    for match, run in matching(facts("ffb6d", stem)["trainer_runs"], RUN):
        half_period = int(match[1]) // int(match[2])
        assert run["lr_used_at"]
        for step, expected in run["lr_used_at"].items():
            actual = rate(max(0, int(step) - 1), half_period)
            assert actual == pytest.approx(expected, rel=1e-9), (match[0], step)
