"""Old state dicts and optimisers are repaired, or dropped with the reason."""

from typing import Any

import pytest
import torch

from ffreid.engine.checkpoints.repair import (
    complete_for_resume,
    count_numbers,
    match_optimiser,
    repair_state,
    to_old_optimiser,
)
from ffreid.engine.task import Plan
from tests.engine.checkpoints.test_contents import state, tiny
from tests.fuzz import is_equal
from tests.old_files import adam


def test_counters_that_old_files_lack_are_zero() -> None:
    new, (note,) = repair_state({k: v for k, v in state().items() if "num_batches" not in k}, {})
    assert is_equal(new, state())
    assert "num_batches_tracked" in note


def test_names_of_forks_become_current() -> None:
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    old = {
        f"1.{names.get(k[2:], k[2:])}" if k.startswith("1.") else k: v for k, v in state().items()
    }
    assert "1.gamma" in old
    new, notes = repair_state(old, {})
    assert is_equal(new, state())
    assert notes == ["1.gamma is now named 1.weight", "… and 2 more"]


@pytest.mark.parametrize(
    ("old", "expected", "note"),
    [
        ({"a": 1}, 1, "b is the same tensor"),
        ({"b": 1}, 1, "a is the same tensor"),
        ({"a": 1, "b": 0}, 0, "differ in the file"),
    ],
)
def test_a_missing_alias_is_added_and_the_last_of_two_is_used(
    old: dict[str, int], expected: int, note: str
) -> None:
    new, notes = repair_state({key: torch.full((2,), n) for key, n in old.items()}, {"b": "a"})
    assert new["a"] is new["b"] and new["a"].tolist() == [expected] * 2
    assert note in notes[0]


def test_an_old_adam_continues_in_the_current_one() -> None:
    net = tiny()
    old = adam(net.parameters())
    matched, problem = match_optimiser(old, net, state())
    assert matched is not None and not problem
    optimiser = torch.optim.Adam(net.parameters(), lr=1.0)
    optimiser.load_state_dict(matched)
    for parameter, then in zip(net.parameters(), old["state"].values(), strict=True):
        now = optimiser.state[parameter]
        assert now["step"] == 83496
        assert torch.equal(now["exp_avg"], then["exp_avg"])
    assert optimiser.param_groups[0]["lr"] == 2.1e-4


def test_the_current_adam_is_written_as_an_old_one() -> None:
    net = tiny()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    net[0](torch.ones(1, 3, 3, 3)).sum().backward()
    optimiser.step()
    old = to_old_optimiser(optimiser.state_dict())
    assert {type(entries["step"]) for entries in old["state"].values()} == {int}
    group = ["lr", "betas", "eps", "weight_decay", "amsgrad", "params"]
    assert sorted(old["param_groups"][0]) == sorted(group)


def first(old: dict[str, Any]) -> Any:
    return next(iter(old["state"].values()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda old: old["param_groups"].append(old["param_groups"][0]), "2 parameter groups"),
        (lambda old: old["param_groups"][0]["params"].pop(), "it has 5 parameters"),
        (lambda old: old["param_groups"][0].update(params=7), "it has 0 parameters"),
        (lambda old: old["state"].update({7: {}}), "in no group"),
        (lambda old: first(old).update(exp_avg=torch.ones(2)), "shape"),
        (lambda old: first(old).update(step=float("nan")), "not a number"),
        (lambda old: first(old).update(step="7"), "not a number"),
        (lambda old: first(old).update(exp_avg=7), "shape"),
        (lambda old: first(old).update(step=torch.ones(2)), "not a number"),
        (lambda old: first(old).pop("exp_avg"), "it is of another optimiser"),
        (lambda old: old["param_groups"][0].pop("betas"), "it is not Adam"),
        (lambda old: old.update(torch.optim.SGD(tiny().parameters()).state_dict()), "not Adam"),
    ],
)
def test_an_optimiser_that_does_not_match_is_dropped_with_the_reason(
    change: Any, problem: str
) -> None:
    net = tiny()
    old = adam(net.parameters())
    assert match_optimiser(old, net, [*state()][::-1]) == (
        None,
        "the network's parameters are in another order",
    )
    change(old)
    matched, reason = match_optimiser(old, net, state())
    assert matched is None and problem in reason


def test_shared_tensors_are_counted_once() -> None:
    one = torch.ones(5)
    assert count_numbers([one, one, torch.ones(2)]) == 7


def test_a_converted_file_is_completed_for_a_run() -> None:
    run = (["a", "b"], Plan(batch=1, steps_per_epoch=10, total=90, workers=0))
    old: dict[str, Any] = {"converted": {}, "epoch": 3, "class_count": 2}
    filled = complete_for_resume(old, *run)
    assert (filled["step"], filled["total"], filled["classes"]) == (40, 90, ["a", "b"])
    assert filled["optimisers"] == {}
    other = complete_for_resume({**old, "class_count": 3, "step": 7}, *run)
    assert other["step"] == 7 and other["classes"] != run[0]
    assert complete_for_resume({"step": 1}, *run) == {"step": 1}
