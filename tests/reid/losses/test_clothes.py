"""CAL with a classifier's cosines and with a memory bank."""

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import MEMORY_UPDATES, ClothesMemory, cal

COSINES = """
0.021025 0.56847 0.042838 -0.41697 -0.63294 -0.19079 -0.25543 0.011595 -0.46172 -0.35679 -0.37508
0.066895
"""
# The sample's clothes class, and all of its identity.
LABEL, POSITIVES = 10, [10, 11]
GRADIENT = """
0.002511 15.991 0.0035598 2.2717e-06 0.0 8.4727e-05 3.0119e-05 0.0021594 1.1102e-06 5.9498e-06
-15.2 -0.79974
"""
# The first step of an empty memory: the identity of each clothes class, and a batch.
IDENTITIES = [0, 0, 1, 1, 2, 2, 2, 3, 3]
BATCH = [6, 6, 6, 0, 7, 7, 5, 4]
FEATURES = """
0.25895 0.97848 -1.17328 1.25390 -0.82396 0.70504 -0.97318 -0.78933 1.09950 -1.47358 1.04118
-0.47128 -0.10936 -0.74941 -1.52751 0.93063 0.09862 0.85358 0.89550 1.10060 0.33635 -0.65647
0.73448 -0.71001 0.41292 1.08571 0.81515 -1.24566 1.07362 -0.97141 -0.88746 2.31404 -1.78471
-0.72635 -0.58726 0.05046 1.39139 0.66857 -0.81255 -0.83451 -1.10455 -2.52446 -1.56034 -1.04128
0.23035 0.83845 0.63635 1.29573 0.44891 -0.97405 -1.33348 0.17119 0.12757 -0.24624 0.72286
-0.92816 0.93516 -0.77027 1.59096 0.59688 1.59575 0.59112 0.46583 0.68019 -0.56056 1.87195
-0.20236 -0.39268 -1.61997 -0.13155 0.08682 -0.57116 -0.05461 -0.56253 -1.47629 -1.07257 -0.43770
-0.43330 0.59325 0.36343 0.59145 1.43327 -0.03499 -1.52283 1.79715 0.34899 0.27846 1.08669
-0.99779 -0.44860 -0.02703 -1.27571 1.20125 -0.35452 0.52714 1.99221
"""
FIRST_LOSS = {"asis": 3.33632, "mean": 0.37209}


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split()]


def rows(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def same_identity(identities: list[int], clothes: list[int]) -> Tensor:
    of_clothes = torch.tensor(identities)
    return of_clothes == of_clothes[clothes].unsqueeze(1)


def test_gradient_of_one_sample_equals_the_recorded() -> None:
    cosines = torch.tensor([numbers(COSINES)], dtype=torch.float64, requires_grad=True)
    positives = torch.zeros(cosines.shape, dtype=torch.bool)
    positives[0, POSITIVES] = True
    torch.autograd.backward(cal(cosines, torch.tensor([LABEL]), positives, scale=16.0, epsilon=0.1))
    assert cosines.grad is not None
    assert cosines.grad[0].tolist() == pytest.approx(numbers(GRADIENT), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("update", MEMORY_UPDATES)
def test_first_loss_of_the_memory_equals_the_recorded(update: str) -> None:
    features = torch.tensor(numbers(FEATURES)).reshape(len(BATCH), -1)
    memory = ClothesMemory(len(IDENTITIES), features.shape[1], update=update)
    loss = memory(features, torch.tensor(BATCH), same_identity(IDENTITIES, BATCH))
    assert loss.item() == pytest.approx(FIRST_LOSS[update], rel=1e-4)


@pytest.mark.parametrize(
    ("update", "first", "second"),
    [("asis", 4.0, 0.25 * 4.0 + 0.25 * 8.0 + 0.5 * 16.0), ("mean", 3.0, 0.5 * 3.0 + 0.5 * 12.0)],
)
def test_momentum_blends_once_every_class_was_seen_also_after_a_resume(
    update: str, first: float, second: float
) -> None:
    memory, resumed = (ClothesMemory(2, 1, momentum=0.5, update=update) for _ in range(2))
    clothes, positives = torch.tensor([0, 1, 1]), torch.eye(2).bool()[[0, 1, 1]]
    memory(rows(1.0, 2.0, 4.0), clothes, positives)
    assert memory.feature_memory.flatten().tolist() == [1.0, first]
    resumed.load_state_dict(memory.state_dict())
    resumed(rows(1.0, 8.0, 16.0), clothes, positives)
    assert resumed.feature_memory.flatten().tolist() == [1.0, second]


def test_momentum_waits_until_every_class_was_seen() -> None:
    memory = ClothesMemory(2, 1, momentum=0.5)
    for value in (2.0, 6.0):
        memory(rows(value), torch.tensor([0]), torch.tensor([[True, False]]))
    assert memory.feature_memory.flatten().tolist() == [6.0, 0.0]
    assert memory.label_memory.tolist() == [0, -1]
