"""A dry run describes the batch, the networks, the losses and the costs of a step."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.dry_run import describe, dry_run, show
from ffreid.engine.task import Losses, Progress, Task
from ffreid.engine.train_step import TrainStep
from tests.engine.example_task import WORLD, Points

BATCH = Points(torch.ones(2, 3), torch.zeros(2, 1024, dtype=torch.int64), ("one", "two"))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.branches = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 6)])
        self.unused = nn.Linear(7, 7).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.branches[0](x), self.branches[1](x)


class Toy(Task):
    optimized = ("net",)

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.net, self.weight = Network(), weight

    def losses(self, batch: Points, at: Progress) -> Iterator[tuple[str, Losses]]:
        five, six = self.net(batch.x)
        losses = {"five": self.weight * five.square().mean(), "six": six.square().mean()}
        yield "net", Losses(losses)


def run(count: int, weight: float = 1.0) -> tuple[dict[str, Any], Task]:
    """The result with `count` micro-batches, and the task."""
    task = Toy(weight)
    optimisers: Any = {"net": torch.optim.SGD(task.net.parameters())}
    rates = {"net": lambda step: 0.1}
    train_step = TrainStep(task, optimisers, rates, device=WORLD.device, seed=0)
    return dry_run(train_step, iter([[BATCH] * count]), Progress(0, 1, 0), list), task


def test_every_tensor_of_a_batch_has_a_row() -> None:
    assert describe(
        {"inputs": BATCH, "levels": (torch.zeros(1, 2), [torch.zeros(()).double()])}
    ) == [
        ["inputs.x", "2 x 3", "float32", 24 / 2**20],
        ["inputs.y", "2 x 1024", "int64", 16 / 2**10],
        ["levels.0", "1 x 2", "float32", 8 / 2**20],
        ["levels.1.0", "one number", "float64", 8 / 2**20],
    ]


def test_one_step_of_all_micro_batches_and_one_evaluation_batch_are_described() -> None:
    result, task = run(3)
    assert (result["micro_batches"], result["samples"]) == (3, 6)
    assert [row[:2] for row in result["batch"]] == [["x", "2 x 3"], ["y", "2 x 1024"]]
    assert result["network"] == [
        ["net", 16 + 25 + 30 + 56, 16 + 25 + 30, "2 x 5, 2 x 6"],
        ["net.first", 16, 16, "2 x 4"],
        ["net.branches", 25 + 30, 25 + 30, "2 x 6"],
        ["net.unused", 56, 0, None],
    ]
    assert (result["parameters"], result["trainable"]) == (127, 71)
    assert not [module for module in task.modules() if module._forward_hooks]
    assert task.get_parameter("net.first.weight").grad is not None
    terms, costs = result["terms"], result["costs"]
    assert terms["loss"] == pytest.approx(terms["five"] + terms["six"])
    assert [row[0] for row in costs] == ["data loading", "training step", "evaluation batch"]
    assert all(row[1] > 0 and row[3] is None for row in costs)  # there is no CUDA device


@pytest.mark.parametrize(("weight", "skipped"), [(1.0, False), (float("inf"), True)])
def test_the_result_is_printed(
    capsys: pytest.CaptureFixture[str], weight: float, skipped: bool
) -> None:
    show(run(2, weight)[0])
    printed = capsys.readouterr().out
    assert "A batch of 4 samples, the first of 2 micro-batches" in printed
    assert "Networks: 127 parameters, 71 trainable" in printed
    assert all(text in printed for text in ("2 x 3", "net.branches", "five", "training step"))
    assert ("Losses of the step, which was skipped: the loss is inf" in printed) == skipped
