"""Losses of the task in half precision."""

import pytest
import torch
from torch import nn

from ffreid.engine.task import Progress
from ffreid.engine.train_step import TrainStep
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model.classifier import NormalizedClassifier
from ffreid.reid.task import NetworkWithClassifier, ReidTask, Settings

FEATURES, IDENTITIES, OUTFITS, BATCH = 32, 4, 8, 16
CPU = torch.device("cpu")
SETTINGS = Settings(
    identity="cosface", clothes="cosface", pair="circle", pair_weight=1.0, pair_gradient="own",
    scale=16.0, margin=0.1, pair_scale=64.0, pair_margin=0.3, epsilon=0.1,
    clothes_from=0, adversarial_from=0,
)  # fmt: skip


def task(memory: bool) -> ReidTask:
    """A task whose images are features already."""
    torch.manual_seed(1)
    made = NetworkWithClassifier(nn.Identity(), NormalizedClassifier(FEATURES, IDENTITIES))
    owners = torch.arange(OUTFITS) // 2 == torch.arange(IDENTITIES)[:, None]
    if memory:
        bank = ClothesMemory(OUTFITS, FEATURES, scale=16.0, epsilon=0.1, momentum=0.2)
        return ReidTask(made, memory=bank, clothes_of_identity=owners, settings=SETTINGS)
    head = NormalizedClassifier(FEATURES, OUTFITS)
    return ReidTask(made, clothes=head, clothes_of_identity=owners, settings=SETTINGS)


def steps(memory: bool, half: torch.dtype | None) -> list[dict[str, float]]:
    """Terms of two steps on the same batch, whose features half precision cannot represent."""
    made = task(memory)
    optimisers = {
        name: torch.optim.SGD(made.get_submodule(name).parameters(), lr=0.1)
        for name in made.optimized
    }
    rates = dict.fromkeys(optimisers, lambda step: 0.1)
    train_step = TrainStep(made, optimisers, rates, device=CPU, autocast=half, seed=0)
    generator = torch.Generator().manual_seed(2)
    clothes = torch.arange(BATCH) // 2
    batch = ReidBatch(
        torch.randn(BATCH, FEATURES, generator=generator), clothes // 2, clothes % OUTFITS
    )
    return [train_step.step([batch], Progress(step, 2, 0)).terms for step in range(2)]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [False, True])
def test_losses_of_cosines_are_the_same_in_half_precision(memory: bool, half: torch.dtype) -> None:
    whole = steps(memory, None)
    names = {"classification", "weighted_pair", "adversarial", *["clothes"] * (not memory)}
    assert names <= set(whole[0])
    for ours, theirs in zip(steps(memory, half), whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
