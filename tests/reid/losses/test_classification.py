"""Losses of scores against the recorded gradients of one sample."""

import pytest
import torch

from ffreid.reid.losses import CLASSIFICATION, CLOTHES

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


def test_losses_are_means_and_clothes_cosines_are_scaled_for_cosface_only() -> None:
    cosines, labels = torch.rand(6, 5), torch.tensor([3, 0, 0, 4, 1, 2])
    losses = {name: loss(cosines, labels, scale=8.0).item() for name, loss in CLOTHES.items()}
    scaled = torch.nn.functional.cross_entropy(8.0 * cosines, labels).item()
    unscaled = torch.nn.functional.cross_entropy(cosines, labels).item()
    assert losses == pytest.approx({"cosface": scaled, "crossentropy": unscaled})
    for loss in CLASSIFICATION.values():
        rows = [
            loss(cosines[i : i + 1], labels[i : i + 1], scale=8.0, margin=0.2) for i in range(6)
        ]
        mean = loss(cosines, labels, scale=8.0, margin=0.2)
        torch.testing.assert_close(mean, torch.stack(rows).mean())
