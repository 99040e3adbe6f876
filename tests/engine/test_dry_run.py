"""A dry run says what a step is made of and what it takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffreid.engine.dry_run import describe, dry_run, show
from ffreid.engine.task import Losses, Progress, Task
from ffreid.engine.train_step import TrainStep

AT = Progress(0, 1, 0)


@dataclass(frozen=True)
class Batch:
    """Toy inputs (B, 3) and labels (B,)."""

    x: Tensor
    labels: Tensor
    names: tuple[str, ...] = ("one", "two")

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        return Batch(self.x.to(device, dtype), self.labels.to(device))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.branches = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 6)])
        self.unused = nn.Linear(7, 7)
        self.unused.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.branches[0](x), self.branches[1](x)


class Toy(Task):
    optimized = ("net",)

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.net = Network()
        self.weight = weight

    def losses(self, batch: Batch, at: Progress) -> Iterator[tuple[str, Losses]]:
        five, six = self.net(batch.x)
        yield (
            "net",
            Losses(train={"five": self.weight * five.square().mean(), "six": six.square().mean()}),
        )


def train_step(task: Task) -> TrainStep:
    optimisers = {"net": torch.optim.SGD(task.get_submodule("net").parameters())}
    return TrainStep(
        task, optimisers, {"net": lambda step: 0.1}, device=torch.device("cpu"), seed=0
    )


def run(count: int = 1, weight: float = 1.0) -> tuple[dict[str, Any], TrainStep, list[str]]:
    """What is found with `count` parts; the trainer; what happened, in order."""
    made = train_step(Toy(weight))
    heard: list[str] = []

    def parts() -> Iterator[Batch]:
        for _ in range(count):
            heard.append("loaded")
            yield Batch(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64))

    found = dry_run(made, parts(), AT, lambda: heard.append("evaluated"))
    return found, made, heard


def test_every_tensor_of_a_batch_has_a_row() -> None:
    inner = Batch(torch.zeros(512, 1024), torch.zeros(2, dtype=torch.int64))
    rows = describe({"inputs": inner, "levels": (torch.zeros(1, 2), [torch.zeros(()).double()])})
    assert rows == [
        ["inputs.x", "512 x 1024", "float32", 2.0],
        ["inputs.labels", "2", "int64", 16 / 2**20],
        ["levels.0", "1 x 2", "float32", 8 / 2**20],
        ["levels.1.0", "one number", "float64", 8 / 2**20],
    ]


def test_every_part_of_the_network_has_its_parameters_and_the_shape_of_its_output() -> None:
    found, made, _ = run()
    assert found["network"] == [
        ["net", 16 + 25 + 30 + 56, 16 + 25 + 30, "2 x 5, 2 x 6"],
        ["net.first", 16, 16, "2 x 4"],
        ["net.branches", 25 + 30, 25 + 30, "2 x 6"],
        ["net.unused", 56, 0, None],
    ]
    assert (found["parameters"], found["trainable"]) == (127, 71)
    assert not [module for module in made.task.modules() if module._forward_hooks]


def test_all_parts_are_trained_on_in_one_step_and_one_batch_is_evaluated() -> None:
    before = Toy().net.first.weight.shape
    found, made, heard = run(3)
    assert heard == ["loaded", "loaded", "loaded", "evaluated"]
    assert (found["micro_batches"], found["samples"]) == (3, 6)
    assert [row[:2] for row in found["batch"]] == [["x", "2 x 3"], ["labels", "2"]]
    gradient = made.task.get_parameter("net.first.weight").grad
    assert gradient is not None and gradient.shape == before
    terms = found["terms"]
    assert terms["loss"] == pytest.approx(terms["five"] + terms["six"])


def test_seconds_and_memory_of_loading_training_and_evaluating_are_told() -> None:
    rows = run()[0]["costs"]
    assert [row[0] for row in rows] == ["load a batch", "train a step", "evaluate a batch"]
    assert all(row[1] > 0 for row in rows)
    assert all(row[3] is None for row in rows)  # there is no device


@pytest.mark.parametrize(("weight", "skipped"), [(1.0, False), (float("inf"), True)])
def test_what_was_found_is_shown(
    capsys: pytest.CaptureFixture[str], weight: float, skipped: bool
) -> None:
    show(run(2, weight)[0])
    told = capsys.readouterr().out
    assert "A batch of 4 samples, the first of 2 micro-batches" in told
    assert "Networks: 127 parameters, 71 trainable" in told
    for word in ("2 x 3", "net.branches", "five", "train a step"):
        assert word in told
    assert ("Losses of the step, which was skipped: the loss is inf" in told) == skipped
