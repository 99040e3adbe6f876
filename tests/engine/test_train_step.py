"""A step trains each part after the other, and a measurement weighs samples alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, nan

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.task import Losses, Progress, Task, ValidationResult
from ffreid.engine.train_step import TrainStep

DTYPE = torch.float64


@dataclass(frozen=True)
class Batch:
    """Toy inputs (B, 3) and targets (B, 2)."""

    x: Tensor
    y: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.x))))

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        return Batch(self.x.to(device, dtype), self.y.to(device, dtype))


class Pair(Task):
    """A first layer fits the targets; a second then fits what the updated first leaves over."""

    optimized = ("first", "second")

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Linear(3, 2).to(DTYPE), nn.Linear(3, 2).to(DTYPE)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, dtype=DTYPE, generator=generator)
        self.heard: list[tuple[str, Progress | bool]] = []

    def adjust_modes(self) -> None:
        self.heard.append(("modes", self.training))

    def before_step(self, at: Progress) -> None:
        self.heard.append(("prepare", at))

    def losses(self, batch: Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
        left = batch.y - self.first(self.dropout(batch.x))
        small = 0.1 * self.first.weight.square().sum()
        # A logged term whose gradient would be huge, were it trained.
        yield (
            "first",
            Losses(train={"fit": left.square().mean(), "small": small}, log={"shown": 1e6 * small}),
        )
        left = batch.y - self.first(batch.x).detach()
        yield "second", Losses(train={"rest": (left - self.second(batch.x)).square().mean()})


RATES = {"first": lambda step: 0.1 / (1 + step), "second": lambda step: 0.2 + 0.1 * step}


def train_step(task: Task, *, seed: int = 0, rank: int = 0) -> TrainStep:
    optimisers = {
        name: torch.optim.Adam(task.get_submodule(name).parameters()) for name in task.optimized
    }
    cpu = torch.device("cpu")
    return TrainStep(task, optimisers, RATES, device=cpu, dtype=DTYPE, seed=seed, rank=rank)


def batches(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    return [
        Batch(torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator))
        for size in sizes
    ]


def by_hand(steps: list[Batch]) -> tuple[Pair, list[dict[str, float]]]:
    """The same two parts trained by a plain loop."""
    task = Pair()
    first = torch.optim.Adam(task.first.parameters())
    second = torch.optim.Adam(task.second.parameters())
    logged = []
    for step, batch in enumerate(steps):
        x, y = batch.x.double(), batch.y.double()
        first.param_groups[0]["lr"] = 0.1 / (1 + step)
        second.param_groups[0]["lr"] = 0.2 + 0.1 * step
        fit, small = (y - task.first(x)).square().mean(), 0.1 * task.first.weight.square().sum()
        row = {"fit": fit.item(), "small": small.item(), "shown": 1e6 * small.item()}
        first.zero_grad()
        (fit + small).backward()
        first.step()
        rest = (y - task.first(x).detach() - task.second(x)).square().mean()
        second.zero_grad()
        rest.backward()
        second.step()
        row["rest"] = rest.item()
        logged.append(row | {"loss": row["fit"] + row["small"] + row["rest"]})
    return task, logged


def states(task: Task) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in task.state_dict().items()}


def test_parts_are_stepped_one_after_the_other_as_by_hand() -> None:
    steps = batches(4, 4, 4, 4)
    expected, rows = by_hand(steps)
    task = Pair()
    made = train_step(task)
    for step, batch in enumerate(steps):
        assert made.step([batch], Progress(step, 4, 0)).terms == pytest.approx(
            rows[step], rel=1e-12
        )
    torch.testing.assert_close(states(task), states(expected), rtol=1e-12, atol=1e-12)


def test_the_task_is_told_where_training_stands_before_its_losses() -> None:
    task, at = Pair(), Progress(5, 9, 2)
    task.eval()
    train_step(task).step([batches(4)[0]], at)
    assert task.heard == [("modes", True), ("prepare", at)]


def test_a_part_that_is_not_stepped_keeps_its_parameters() -> None:
    class First(Pair):
        def losses(self, batch: Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
            yield next(super().losses(batch, at))

    task = First()
    before = states(task)
    train_step(task).step([batches(4)[0]], Progress(0, 1, 0))
    assert torch.equal(task.second.weight, before["second.weight"])
    assert not torch.equal(task.first.weight, before["first.weight"])


def test_evaluation_weighs_batches_by_their_samples() -> None:
    parts = batches(5, 2, 1)
    whole = Batch(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
    made, at = train_step(Pair()), Progress(0, 1, 0)
    found = made.evaluate(iter(parts), at)
    assert found == pytest.approx(made.evaluate(iter([whole]), at), rel=1e-12)
    assert found["loss"] == pytest.approx(found["fit"] + found["small"] + found["rest"])
    assert found["shown"] == pytest.approx(1e6 * found["small"])


def test_evaluation_changes_neither_parameters_nor_optimisers() -> None:
    task = Pair(dropout=0.5)
    made = train_step(task)
    made.step([batches(4)[0]], Progress(0, 2, 0))
    before = made.state()["optimisers"]["first"]["state"][0]["exp_avg"].clone()
    parameters = states(task)
    made.evaluate(iter(batches(3, 3)), Progress(1, 2, 0))
    torch.testing.assert_close(states(task), parameters, rtol=0, atol=0)
    after = made.state()["optimisers"]["first"]["state"][0]["exp_avg"]
    assert torch.equal(before, after)


def test_evaluation_is_without_dropout_and_the_next_step_with_it() -> None:
    task, at = Pair(dropout=0.5), Progress(0, 2, 0)
    made = train_step(task)
    batch = batches(4)[0]
    assert made.evaluate(iter([batch]), at) == train_step(Pair()).evaluate(iter([batch]), at)
    assert not task.training
    made.step([batch], at)
    assert task.training


def test_an_evaluation_between_two_steps_leaves_them_as_they_were() -> None:
    first, second = batches(4, 4)
    tasks = Pair(dropout=0.5), Pair(dropout=0.5)
    for task, evaluates in zip(tasks, (False, True), strict=True):
        made = train_step(task)
        made.step([first], Progress(0, 2, 0))
        if evaluates:
            made.evaluate(iter([second]), Progress(1, 2, 0))
        torch.rand(5)
        made.step([second], Progress(1, 2, 0))
    torch.testing.assert_close(states(tasks[0]), states(tasks[1]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "same"), [({}, True), ({"rank": 1}, False), ({"seed": 1}, False)]
)
def test_dropout_follows_from_seed_step_and_process(changed: dict[str, int], same: bool) -> None:
    batch, at = batches(64)[0], Progress(0, 1, 0)
    usual = train_step(Pair(dropout=0.5)).step([batch], at).terms["fit"]
    assert (
        train_step(Pair(dropout=0.5), **changed).step([batch], at).terms["fit"] == usual
    ) is same


def test_a_state_taken_back_trains_on_bitwise() -> None:
    steps = batches(4, 4, 4, 4)
    whole, started, resumed = Pair(dropout=0.3), Pair(dropout=0.3), Pair(dropout=0.3)
    made, before = train_step(whole), train_step(started)
    for step in range(4):
        made.step([steps[step]], Progress(step, 4, 0))
    for step in range(2):
        before.step([steps[step]], Progress(step, 4, 0))
    after = train_step(resumed)
    after.load_state(before.state())
    for step in range(2, 4):
        after.step([steps[step]], Progress(step, 4, 0))
    torch.testing.assert_close(states(resumed), states(whole), rtol=0, atol=0)


class Halves(Task):
    """Trains a layer, then shows what the updated layer gives and trains another on it."""

    optimized = ("first", "second")

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)
        self.given: list[Tensor] = []

    def losses(self, batch: Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
        given = self.first(batch.x)
        yield "first", Losses(train={"fit": given.square().mean()})
        self.given = [given.detach(), self.first(batch.x).detach()]
        yield "second", Losses(train={"rest": self.second(self.given[1]).square().mean()})


def halves(half: torch.dtype | None) -> tuple[Halves, TrainStep]:
    task = Halves()
    optimisers = {
        name: torch.optim.SGD(task.get_submodule(name).parameters()) for name in task.optimized
    }
    rates = dict.fromkeys(task.optimized, lambda step: 0.5)
    made = TrainStep(task, optimisers, rates, device=torch.device("cpu"), autocast=half, seed=0)
    return task, made


def test_every_part_sees_the_weights_that_the_one_before_has_updated_in_half_precision() -> None:
    task, made = halves(torch.bfloat16)
    batch = batches(8)[0]
    made.step([batch], Progress(0, 1, 0))
    before, after = task.given
    assert before.dtype == after.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task.first(batch.x), after)
    assert not torch.equal(before, after)


def test_without_half_precision_everything_is_whole() -> None:
    task, made = halves(None)
    made.step([batches(8)[0]], Progress(0, 1, 0))
    assert [given.dtype for given in task.given] == [torch.float32, torch.float32]


@pytest.mark.parametrize(
    ("half", "scaled"), [(None, False), (torch.bfloat16, False), (torch.float16, True)]
)
def test_losses_are_scaled_in_float16_alone(half: torch.dtype | None, scaled: bool) -> None:
    made = halves(half)[1]
    assert made.scaler.is_enabled() is scaled
    assert bool(made.state()["scaler"]) is scaled


class Remembers(Pair):
    """Counts its steps in a part without an optimiser."""

    extra_state = ("memory",)

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Module()
        self.memory.register_buffer("steps", torch.zeros(()))

    def before_step(self, at: Progress) -> None:
        self.memory.get_buffer("steps").add_(1)


def test_what_is_kept_is_saved_and_taken_back() -> None:
    task, other = Remembers(), Remembers()
    made = train_step(task)
    for step, batch in enumerate(batches(4, 4)):
        made.step([batch], Progress(step, 2, 0))
    state = made.state()
    assert list(state["parts"]) == ["first", "second", "memory"]
    assert list(state["optimisers"]) == ["first", "second"]
    train_step(other).load_state(state)
    assert other.memory.get_buffer("steps") == 2
    torch.testing.assert_close(states(other), states(task), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("higher_is_better", "value", "best", "better"),
    [
        (True, 0.5, None, True),
        (True, 0.5, 0.4, True),
        (True, 0.5, 0.5, False),
        (False, 0.5, 0.6, True),
        (False, 0.5, 0.4, False),
        (False, -inf, 0.4, True),
        (True, nan, None, True),
        (True, nan, 0.0, False),
        (False, nan, 9.0, False),
        (True, 0.0, nan, True),
        (False, 9.0, nan, True),
    ],
)
def test_a_number_beats_a_worse_one_and_what_is_none(
    higher_is_better: bool, value: float, best: float | None, better: bool
) -> None:
    found = ValidationResult(row={}, name="rank-1", value=value, higher_is_better=higher_is_better)
    assert found.better_than(best) is better


def test_where_nothing_is_a_number_the_last_is_the_best() -> None:
    assert ValidationResult(row={}, name="rank-1", value=nan, higher_is_better=True).better_than(
        nan
    )
