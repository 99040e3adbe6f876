"""Losses of the task under autocast."""

import pytest
import torch
from torch import nn

from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.reid.data.batch import ReidBatch
from tests.reid.cal_task import cal_task, labels

FEATURES, BATCH = 32, 16


def steps(memory: bool, half: torch.dtype | None) -> list[dict[str, float]]:
    """Terms of two steps on the same batch, whose features half precision cannot represent."""
    settings = "LOSS.PAIR_LOSS circle LOSS.PAIR_S 64"
    task = cal_task(nn.Identity(), FEATURES, memory=memory, settings=settings)
    optimisers = {
        name: torch.optim.SGD(task.get_submodule(name).parameters(), lr=0.1)
        for name in task.optimized
    }
    rates = dict.fromkeys(optimisers, lambda step: 0.1)
    device = torch.device("cpu")
    train_step = TrainStep(task, optimisers, rates, device=device, autocast=half, seed=0)
    features = torch.randn(BATCH, FEATURES, generator=torch.Generator().manual_seed(2))
    batch = ReidBatch(features, *labels(BATCH))
    return [train_step.step([batch], Progress(step, 2, 0)).terms for step in range(2)]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [False, True])
def test_cosine_losses_are_the_same_in_half_precision(memory: bool, half: torch.dtype) -> None:
    single = steps(memory, None)
    names = {"classification", "weighted_pair", "adversarial", *["clothes"] * (not memory)}
    assert names <= set(single[0])
    for ours, expected in zip(steps(memory, half), single, strict=True):
        assert ours == pytest.approx(expected, rel=1e-5)
