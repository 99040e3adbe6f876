"""Parts of a task are stepped in order; evaluations weight samples equally."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.task import Losses, Progress, Task, ValidationResult
from ffreid.engine.train_step import AverageMeter, TrainStep, timed
from tests.engine.example_runs import record
from tests.engine.example_task import WORLD, Points, collate

DTYPE = torch.float64
AT = Progress(0, 1, 0)


class Pair(Task):
    """A layer fits the targets; a second one the rest that the updated first leaves.

    The memory counts steps, without an optimiser.
    """

    optimized = ("first", "second")
    extra_state = ("memory",)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 2, dtype=DTYPE), nn.Linear(3, 2, dtype=DTYPE)
        self.dropout, self.memory = nn.Dropout(dropout), nn.Module()
        self.memory.register_buffer("steps", torch.zeros(()))
        self.calls: list[Progress | bool] = []

    def adjust_modes(self) -> None:
        self.calls.append(self.training)

    def before_step(self, at: Progress) -> None:
        self.calls.append(at)
        self.memory.get_buffer("steps").add_(1)

    def losses(self, batch: Points, at: Progress) -> Iterator[tuple[str, Losses]]:
        rest = batch.y - self.first(self.dropout(batch.x))
        small = 0.1 * self.first.weight.square().sum()
        train = {"fit": rest.square().mean(), "small": small}
        # The gradient of the logged term would be huge.
        yield "first", Losses(train, log={"logged": 1e6 * small}, count={"n": torch.tensor(1.0)})
        rest = batch.y - self.first(batch.x).detach()
        yield "second", Losses({"rest": (rest - self.second(batch.x)).square().mean()})


RATES = {"first": lambda step: 0.1 / (1 + step), "second": lambda step: 0.2 + 0.1 * step}


def train_step(task: Task, **options: Any) -> TrainStep:
    optimisers = {
        name: torch.optim.Adam(task.get_submodule(name).parameters()) for name in task.optimized
    }
    return TrainStep(
        task, optimisers, RATES, device=WORLD.device, **{"dtype": DTYPE, "seed": 0, **options}
    )


def batches(*sizes: int) -> list[Points]:
    generator = torch.Generator().manual_seed(3)
    data = [torch.randn(size, 5, generator=generator) for size in sizes]
    return [Points(rows[:, :3], rows[:, 3:], ("a name",) * len(rows)) for rows in data]


def simple_loop(steps: list[Points]) -> tuple[Pair, list[dict[str, float]]]:
    """The same two parts trained by a simple loop."""
    task = Pair()
    first = torch.optim.Adam(task.first.parameters())
    second = torch.optim.Adam(task.second.parameters())
    logged = []
    for step, batch in enumerate(steps):
        x, y = batch.x.double(), batch.y.double()
        first.param_groups[0]["lr"] = 0.1 / (1 + step)
        second.param_groups[0]["lr"] = 0.2 + 0.1 * step
        fit, small = (y - task.first(x)).square().mean(), 0.1 * task.first.weight.square().sum()
        row = {"fit": fit.item(), "small": small.item(), "logged": 1e6 * small.item(), "n": 1}
        first.zero_grad()
        (fit + small).backward()
        first.step()
        rest = (y - task.first(x).detach() - task.second(x)).square().mean()
        second.zero_grad()
        rest.backward()
        second.step()
        row["rest"] = rest.item()
        logged.append(row | {"loss": row["fit"] + row["small"] + row["rest"]})
        task.memory.get_buffer("steps").add_(1)
    return task, logged


def states(task: Task) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in task.state_dict().items()}


def test_parts_are_stepped_in_order_as_in_a_simple_loop() -> None:
    steps = batches(4, 4, 4, 4)
    expected, rows = simple_loop(steps)
    task = Pair()
    stepper = train_step(task)
    for step, batch in enumerate(steps):
        terms = stepper.step([batch], Progress(step, 4, 0)).terms
        assert terms == pytest.approx(rows[step], rel=1e-12)
    torch.testing.assert_close(states(task), states(expected), rtol=1e-12, atol=1e-12)


def test_counts_are_summed_and_losses_averaged_over_micro_batches() -> None:
    parts = batches(2, 2, 2)
    expected = train_step(Pair()).step([collate(parts)], AT).terms
    terms = train_step(Pair()).step(parts, AT).terms
    assert terms == pytest.approx(expected | {"n": 3}, rel=1e-12)


def test_hooks_of_the_task_are_called_before_its_losses() -> None:
    task, at = Pair(), Progress(5, 9, 2)
    task.eval()
    train_step(task).step(batches(4), at)
    assert task.calls == [True, at]


def test_a_part_that_is_not_stepped_keeps_its_parameters() -> None:
    class First(Pair):
        def losses(self, batch: Points, at: Progress) -> Iterator[tuple[str, Losses]]:
            yield next(super().losses(batch, at))

    task = First()
    before = states(task)
    train_step(task).step(batches(4), AT)
    assert torch.equal(task.second.weight, before["second.weight"])
    assert not torch.equal(task.first.weight, before["first.weight"])


def test_evaluation_weights_batches_by_their_sizes() -> None:
    parts = batches(5, 2, 1)
    stepper = train_step(Pair())
    terms = stepper.evaluate(iter(parts), AT)
    assert terms == pytest.approx(stepper.evaluate(iter([collate(parts)]), AT), rel=1e-12)
    assert terms["loss"] == pytest.approx(terms["fit"] + terms["small"] + terms["rest"])
    assert terms["logged"] == pytest.approx(1e6 * terms["small"])
    assert stepper.evaluate(iter([]), AT) == {}


def test_evaluation_is_without_dropout_and_changes_no_later_step() -> None:
    first, second = batches(4, 4)
    tasks = Pair(dropout=0.5), Pair(dropout=0.5)
    for task in tasks:
        stepper = train_step(task)
        stepper.step([first], Progress(0, 2, 0))
        if task is tasks[1]:
            without_dropout = Pair()
            without_dropout.load_state_dict(before := states(task))
            evaluated = stepper.evaluate(iter([second]), AT)
            assert evaluated == train_step(without_dropout).evaluate(iter([second]), AT)
            assert not task.training
            torch.testing.assert_close(states(task), before, rtol=0, atol=0)
        torch.rand(5)
        stepper.step([second], Progress(1, 2, 0))
    torch.testing.assert_close(*map(states, tasks), rtol=0, atol=0)


def test_dropout_depends_on_seed_and_process() -> None:
    first, again, *others = (
        train_step(Pair(dropout=0.5), **options).step(batches(64), AT).terms["fit"]
        for options in ({}, {}, {"rank": 1}, {"seed": 1})
    )
    assert first == again and first not in others


def test_training_from_a_restored_state_is_bitwise_the_same() -> None:
    steps = batches(4, 4, 4, 4)
    complete, resumed = Pair(dropout=0.3), Pair(dropout=0.3)
    steppers = train_step(complete), train_step(resumed)
    for step, batch in enumerate(steps):
        if step == 2:
            state = deepcopy(steppers[0].state())
            assert list(state["parts"]) == ["first", "second", "memory"]
            assert list(state["optimisers"]) == ["first", "second"]
            steppers[1].load_state(state, "last.pth")
            assert resumed.memory.get_buffer("steps") == 2
        for stepper in steppers[: 1 + (step >= 2)]:
            stepper.step([batch], Progress(step, 4, 0))
    torch.testing.assert_close(states(complete), states(resumed), rtol=0, atol=0)


class Chain(Task):
    """Trains a layer, then another one on the output of the updated first."""

    optimized = ("first", "second")

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)
        self.outputs: list[Tensor] = []

    def losses(self, batch: Points, at: Progress) -> Iterator[tuple[str, Losses]]:
        output = self.first(batch.x)
        yield "first", Losses({"fit": output.square().mean()})
        self.outputs = [output.detach(), self.first(batch.x).detach()]
        yield "second", Losses({"rest": self.second(self.outputs[1]).square().mean()})


@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_each_part_sees_updated_weights_also_under_autocast(autocast: torch.dtype | None) -> None:
    task, (batch,) = Chain(), batches(8)
    stepper = train_step(task, dtype=torch.float32, autocast=autocast)
    assert stepper.scaler.is_enabled() is bool(stepper.state()["scaler"])
    assert stepper.scaler.is_enabled() is (autocast == torch.float16)
    stepper.step([batch], AT)
    before, after = task.outputs
    assert before.dtype == after.dtype == (autocast or torch.float32)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        assert torch.equal(task.first(batch.x), after)
    # A large loss scale overflows in the first step, which the scaler skips.
    assert torch.equal(before, after) is (autocast == torch.float16)


@pytest.mark.parametrize(
    ("higher_is_better", "value", "beaten", "unbeaten"),
    [
        (True, 0.5, (None, 0.4, nan), (0.5, 0.6)),
        (False, 0.5, (None, 0.6, nan), (0.5, 0.4)),
        (False, -inf, (0.4,), ()),
        (True, nan, (None, nan), (0.0,)),
        (False, nan, (None, nan), (9.0,)),
    ],
)
def test_a_better_value_is_best_and_any_number_beats_nan(
    higher_is_better: bool, value: float, beaten: Any, unbeaten: Any
) -> None:
    result = ValidationResult(row={}, name="x", value=value, higher_is_better=higher_is_better)
    assert all(map(result.better_than, beaten))
    assert not any(map(result.better_than, unbeaten))


def test_terms_and_waiting_are_averaged_over_an_epoch_also_if_interrupted() -> None:
    first = AverageMeter()
    first.add(record(1, terms={"a": 1.0, "b": 2.0}, waited=0.5, seconds=2.0))
    second = AverageMeter(**asdict(first))
    second.add(record(2, terms={"a": 3.0, "b": 2.0}, waited=0.25, seconds=1.0))
    assert second.means() == {"a": 2.0, "b": 2.0}
    assert (second.steps, second.waited, second.seconds) == (2, 0.75, 3.75)
    assert first.steps == 1


def test_only_the_wait_for_a_batch_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0])  # the second is requested after a long step
    monkeypatch.setattr("ffreid.engine.train_step.time.monotonic", lambda: next(clock))
    assert list(timed(iter("ab"))) == [("a", 2.0), ("b", 1.0)]
