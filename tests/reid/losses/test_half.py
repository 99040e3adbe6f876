"""Every loss that the configuration knows, in half precision: that of the rounded inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import CLASSIFICATION, CLOTHES, MEMORY_UPDATES, PAIRWISE, ClothesMemory, cal

BATCH, FEATURES, CLASSES = 16, 2048, 8
LABELS = torch.arange(BATCH) % CLASSES
HALVES = [torch.bfloat16, torch.float16]


def rows(count: int, width: int, *, length: float) -> Tensor:
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(3))
    return length * torch.nn.functional.normalize(drawn, dim=1)


def cosines() -> Tensor:
    """Cosines with both ends of their range among them."""
    found = rows(BATCH, CLASSES, length=1.0)
    found[0, 0], found[1, 1] = 1.0, -1.0
    return found


def check(loss: Callable[[Tensor], Tensor], values: Tensor, half: torch.dtype) -> None:
    """Compare with single precision on the same rounded values, and ask for finite gradients."""
    rounded = values.to(half).requires_grad_()
    with torch.autocast("cpu", half):
        found = loss(rounded)
    assert found.dtype == torch.float32 and found.isfinite()
    assert torch.equal(found, loss(rounded.detach().float()))
    torch.autograd.backward(found)
    assert rounded.grad is not None and rounded.grad.isfinite().all()


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_of_identities(name: str, half: torch.dtype) -> None:
    logits = "crossentropy" in name
    values = rows(BATCH, CLASSES, length=1e3) if logits else cosines()
    check(lambda v: CLASSIFICATION[name](v, LABELS, scale=64.0, margin=0.3), values, half)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", PAIRWISE)
def test_of_pairs(name: str, half: torch.dtype) -> None:
    features = rows(BATCH, FEATURES, length=1e3)
    check(lambda v: PAIRWISE[name](v, LABELS, scale=64.0, margin=0.3, groups=2), features, half)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", CLOTHES)
def test_of_clothes(name: str, half: torch.dtype) -> None:
    check(lambda v: CLOTHES[name](v, LABELS, scale=64.0), cosines(), half)


def owned() -> Tensor:
    return LABELS.unsqueeze(1) // 2 == torch.arange(CLASSES) // 2


@pytest.mark.parametrize("half", HALVES)
def test_against_clothes(half: torch.dtype) -> None:
    check(lambda v: cal(v, LABELS, owned(), scale=64.0), cosines(), half)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("update", MEMORY_UPDATES)
def test_against_remembered_clothes(update: str, half: torch.dtype) -> None:
    def loss(values: Tensor) -> Tensor:
        memory = ClothesMemory(CLASSES, FEATURES, momentum=0.2, update=update)
        found: Tensor = memory(values, LABELS, owned())
        assert memory.feature_memory.dtype == torch.float32
        return found

    check(loss, rows(BATCH, FEATURES, length=1e3), half)
