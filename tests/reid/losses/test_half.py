"""All losses are computed in float32 in half precision and under autocast, and stay finite."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import CLASSIFICATION, CLOTHES, MEMORY_UPDATES, PAIRWISE, ClothesMemory, cal
from ffreid.reid.losses.pairwise import make_pairs

BATCH, FEATURES, CLASSES = 16, 2048, 8
LABELS = torch.arange(BATCH) % CLASSES
IDENTITIES = {"mixed": LABELS, "different": torch.arange(BATCH), "the same": 0 * LABELS}
SAME_PERSON = LABELS.unsqueeze(1) // 2 == torch.arange(CLASSES) // 2
pytestmark = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])


def rows(width: int, *, length: float) -> Tensor:
    values = torch.randn(BATCH, width, generator=torch.Generator().manual_seed(3))
    return length * torch.nn.functional.normalize(values, dim=1)


def cosines() -> Tensor:
    """Cosines with both ends of their range among them."""
    values = rows(CLASSES, length=1.0)
    values[0, 0], values[1, 1] = 1.0, -1.0
    return values


def check(loss: Callable[[Tensor], Tensor], values: Tensor, dtype: torch.dtype) -> float:
    """Compare with float32 on the same rounded values, and require finite gradients."""
    rounded = values.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16 if dtype == torch.float32 else dtype):
        value = loss(rounded)
    assert value.dtype == torch.float32 and value.isfinite()
    assert torch.equal(value, loss(rounded.detach().float()))
    torch.autograd.backward(value)
    assert rounded.grad is not None and rounded.grad.isfinite().all()
    return value.item()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification(name: str, dtype: torch.dtype) -> None:
    values = rows(CLASSES, length=1e3) if "crossentropy" in name else cosines()
    check(lambda v: CLASSIFICATION[name](v, LABELS, scale=64.0, margin=0.3), values, dtype)


@pytest.mark.parametrize("identities", IDENTITIES.values(), ids=list(IDENTITIES))
@pytest.mark.parametrize("name", PAIRWISE)
def test_pairwise(name: str, identities: Tensor, dtype: torch.dtype) -> None:
    features = rows(FEATURES, length=1e3)
    features[1], features[2] = -features[0], features[0]

    def loss(values: Tensor) -> Tensor:
        return PAIRWISE[name](make_pairs(values, identities, groups=2), scale=64.0, margin=0.3)

    check(loss, features, dtype)


@pytest.mark.parametrize("name", CLOTHES)
def test_clothes(name: str, dtype: torch.dtype) -> None:
    check(lambda v: CLOTHES[name](v, LABELS, scale=64.0), cosines(), dtype)


@pytest.mark.parametrize("has_negatives", [True, False])
def test_cal(has_negatives: bool, dtype: torch.dtype) -> None:
    positives = SAME_PERSON if has_negatives else SAME_PERSON | True
    loss = check(lambda v: cal(v, LABELS, positives, scale=64.0), cosines(), dtype)
    assert (loss != 0.0) == has_negatives


@pytest.mark.parametrize("update", MEMORY_UPDATES)
def test_cal_with_memory(update: str, dtype: torch.dtype) -> None:
    def loss(values: Tensor) -> Tensor:
        memory = ClothesMemory(CLASSES, FEATURES, momentum=0.2, update=update)
        value: Tensor = memory(values, LABELS, SAME_PERSON)
        assert memory.feature_memory.dtype == torch.float32
        assert not memory.feature_memory.requires_grad
        return value

    check(loss, rows(FEATURES, length=1e3), dtype)
