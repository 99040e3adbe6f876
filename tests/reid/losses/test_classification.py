"""Losses of scores: against loops, and against one sample's recorded gradients."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from ffreid.reid.losses import CLASSIFICATION, CLOTHES
from ffreid.reid.losses.classification import arcface, circle, cosface, cross_entropy

LABEL = 2
# The true cosine is so low that ArcFace's angle would pass pi.
COSINES = [
    0.552345,
    0.493119,
    -0.9999,
    0.672013,
    0.0445135,
    -0.451782,
    -0.406478,
    -0.365093,
    -0.0609853,
    -0.56609,
]
LOGITS = [
    -3.6446,
    0.414083,
    -9.35312,
    -3.40833,
    0.0761573,
    -5.30776,
    1.00451,
    -2.59145,
    3.23369,
    -0.101587,
]
LOSSES: dict[str, tuple[Callable[..., Tensor], list[float]]] = {
    "smoothed": (partial(cross_entropy, smoothing=0.1), LOGITS),
    "arcface": (partial(arcface, scale=16.0, margin=0.1), COSINES),
    "cosface": (partial(cosface, scale=16.0, margin=0.1), COSINES),
    "circle": (partial(circle, scale=96.0, margin=0.3), COSINES),
}
RECORDED = {
    "smoothed": [
        -0.00917665,
        0.0376704,
        -0.909997,
        -0.00895722,
        0.0240008,
        -0.00984394,
        0.0760336,
        -0.00763973,
        0.789446,
        0.018464,
    ],
    "arcface": [1.95768, 0.758931, -16.0, 13.2827, 0.000579389, 0.0, 0.0, 0.0, 0.000107125, 0.0],
    "cosface": [1.95768, 0.758931, -16.0, 13.2827, 0.000579389, 0.0, 0.0, 0.0, 0.000107125, 0.0],
    "circle": [6.3715e-05, 0.0, -220.79, 93.3132, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    cosines = 2 * torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    cosines[0, 3] = -0.998
    return cosines, torch.tensor([3, 0, 0, 4, 1, 2])


def plain(cosines: Tensor, labels: Tensor, change: Callable[[float, bool], float]) -> float:
    """Cross entropy by loops, of scores that `change` makes from a cosine and if it is true."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        scores = [change(value, index == label) for index, value in enumerate(row)]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[label]
    return total / len(labels)


@pytest.mark.parametrize("name", RECORDED)
def test_one_samples_gradient_is_the_recorded(name: str) -> None:
    loss, scores = LOSSES[name]
    given = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(loss(given, torch.tensor([LABEL])))
    assert given.grad is not None
    assert given.grad[0].tolist() == pytest.approx(RECORDED[name], rel=1e-4, abs=1e-5)


def test_smoothing_shares_some_of_the_target_among_all_classes() -> None:
    scores, labels = batch()
    total = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(math.exp(score) for score in row))
        for index, score in enumerate(row):
            total -= (0.7 * (index == label) + 0.3 / len(row)) * (score - norm)
    assert cross_entropy(scores, labels, smoothing=0.3).item() == pytest.approx(total / len(labels))


def test_arcface_turns_the_true_class() -> None:
    def change(value: float, true: bool) -> float:
        if true and math.acos(value) + 0.2 < math.pi:
            value = math.cos(math.acos(value) + 0.2)
        elif true:
            value -= 0.2 * math.sin(0.2)
        return 10.0 * value

    cosines, labels = batch()
    loss = arcface(cosines, labels, scale=10.0, margin=0.2)
    assert loss.item() == pytest.approx(plain(cosines, labels, change))


def test_cosface_lowers_the_true_class() -> None:
    cosines, labels = batch()
    loss = cosface(cosines, labels, scale=10.0, margin=0.2)
    expected = plain(cosines, labels, lambda value, true: 10.0 * (value - 0.2 * true))
    assert loss.item() == pytest.approx(expected)


def test_circle_weighs_by_how_far_a_cosine_is_from_its_goal() -> None:
    def change(value: float, true: bool) -> float:
        if true:
            return 10.0 * max(1.2 - value, 0.0) * (value - 0.8)
        return 10.0 * max(value + 0.2, 0.0) * (value - 0.2)

    cosines, labels = batch()
    loss = circle(cosines, labels, scale=10.0, margin=0.2)
    assert loss.item() == pytest.approx(plain(cosines, labels, change))


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_stays_finite(name: str, kind: torch.dtype) -> None:
    cosines, labels = batch()
    cosines[1:3] = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    given = cosines.to(kind).requires_grad_()
    loss = CLASSIFICATION[name](given, labels, scale=64.0, margin=0.3)
    torch.autograd.backward(loss)
    assert given.grad is not None
    assert loss.isfinite()
    assert given.grad.isfinite().all()
    exact = CLASSIFICATION[name](given.detach().double(), labels, scale=64.0, margin=0.3)
    # In float32 a sine is known to the root of its precision only.
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_settings_are_those_of_the_configuration(name: str) -> None:
    scores, labels = batch()
    loss = CLASSIFICATION[name](scores, labels, scale=8.0, margin=0.2)
    expected = {
        "crossentropy": cross_entropy(scores, labels),
        "crossentropylabelsmooth": cross_entropy(scores, labels, smoothing=0.1),
        "arcface": arcface(scores, labels, scale=8.0, margin=0.2),
        "cosface": cosface(scores, labels, scale=8.0, margin=0.2),
        "circle": circle(scores, labels, scale=8.0, margin=0.2),
    }
    assert loss.item() == expected[name].item()


def test_clothes_cosines_are_scaled_for_cosface_only() -> None:
    cosines, labels = batch()
    losses = {name: loss(cosines, labels, scale=8.0).item() for name, loss in CLOTHES.items()}
    scaled = torch.nn.functional.cross_entropy(8.0 * cosines, labels).item()
    unscaled = torch.nn.functional.cross_entropy(cosines, labels).item()
    assert losses == pytest.approx({"cosface": scaled, "crossentropy": unscaled})
