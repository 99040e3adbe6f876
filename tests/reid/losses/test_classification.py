"""Losses of scores against loops and against the recorded gradients of one sample."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import CLASSIFICATION, CLOTHES

SCALE, MARGIN = 10.0, 0.2
LABEL = 2
# The cosine of the label is so low that ArcFace's angle would exceed pi.
COSINES = """
0.552345 0.493119 -0.9999 0.672013 0.0445135 -0.451782 -0.406478 -0.365093 -0.0609853 -0.56609
"""
LOGITS = "-3.6446 0.414083 -9.35312 -3.40833 0.0761573 -5.30776 1.00451 -2.59145 3.23369 -0.101587"
SMOOTHED_GRADIENT = """
-0.00917665 0.0376704 -0.909997 -0.00895722 0.0240008 -0.00984394 0.0760336 -0.00763973 0.789446
0.018464
"""
MARGIN_GRADIENT = "1.95768 0.758931 -16.0 13.2827 0.000579389 0.0 0.0 0.0 0.000107125 0.0"
RECORDED = {
    "crossentropylabelsmooth": (LOGITS, 1.0, 0.0, SMOOTHED_GRADIENT),
    "arcface": (COSINES, 16.0, 0.1, MARGIN_GRADIENT),
    "cosface": (COSINES, 16.0, 0.1, MARGIN_GRADIENT),
    "circle": (COSINES, 96.0, 0.3, "6.3715e-05 0.0 -220.79 93.3132 0.0 0.0 0.0 0.0 0.0 0.0"),
}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    cosines = 2 * torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    cosines[0, 3] = -0.998
    return cosines, torch.tensor([3, 0, 0, 4, 1, 2])


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split()]


@pytest.mark.parametrize("name", RECORDED)
def test_gradient_of_one_sample_equals_the_recorded(name: str) -> None:
    scores, scale, margin, expected = RECORDED[name]
    values = torch.tensor([numbers(scores)], dtype=torch.float64, requires_grad=True)
    loss = CLASSIFICATION[name](values, torch.tensor([LABEL]), scale=scale, margin=margin)
    torch.autograd.backward(loss)
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx(numbers(expected), rel=1e-4, abs=1e-5)


def arcface(value: float, is_label: bool) -> float:
    if is_label and math.acos(value) + MARGIN < math.pi:
        value = math.cos(math.acos(value) + MARGIN)
    elif is_label:
        value -= MARGIN * math.sin(MARGIN)
    return SCALE * value


def circle(value: float, is_label: bool) -> float:
    if is_label:
        return SCALE * max(1 + MARGIN - value, 0.0) * (value - 1 + MARGIN)
    return SCALE * max(value + MARGIN, 0.0) * (value - MARGIN)


LOGIT: dict[str, Callable[[float, bool], float]] = {
    "crossentropy": lambda value, is_label: value,
    "crossentropylabelsmooth": lambda value, is_label: value,
    "arcface": arcface,
    "cosface": lambda value, is_label: SCALE * (value - MARGIN * is_label),
    "circle": circle,
}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_loss_equals_loops(name: str) -> None:
    smoothing = 0.1 if name == "crossentropylabelsmooth" else 0.0
    cosines, labels = batch()
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        logits = [LOGIT[name](value, index == label) for index, value in enumerate(row)]
        norm = math.log(sum(map(math.exp, logits)))
        for index, logit in enumerate(logits):
            target = (1 - smoothing) * (index == label) + smoothing / len(logits)
            total += target * (norm - logit)
    loss = CLASSIFICATION[name](cosines, labels, scale=SCALE, margin=MARGIN)
    assert loss.item() == pytest.approx(total / len(labels))


def test_clothes_cosines_are_scaled_for_cosface_only() -> None:
    cosines, labels = batch()
    losses = {name: loss(cosines, labels, scale=8.0).item() for name, loss in CLOTHES.items()}
    scaled = torch.nn.functional.cross_entropy(8.0 * cosines, labels).item()
    unscaled = torch.nn.functional.cross_entropy(cosines, labels).item()
    assert losses == pytest.approx({"cosface": scaled, "crossentropy": unscaled})
