"""Losses against values and gradients recorded from the original."""

import numpy as np
import pytest
import torch

from ffreid.pose.losses import focal_loss, offset_loss
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden
LOSSES = recordings("ffb6d", "losses.npz")


@pytest.mark.parametrize("stem", LOSSES)
@pytest.mark.parametrize("kind", ["focal", "of"])
def test_values_and_gradients(stem: str, kind: str) -> None:
    data, meta = arrays("ffb6d", stem), facts("ffb6d", stem)
    cases = sorted({key.split("/")[0] for key in data if key.startswith(kind)})
    assert cases
    for case in cases:
        labels = torch.from_numpy(data[f"{case}/labels"]).long()
        if kind == "focal":
            logits = torch.from_numpy(data[f"{case}/logits"]).double().requires_grad_()
            loss = focal_loss(logits, labels)
            assert loss.item() == pytest.approx(meta[case], rel=1e-9)
            torch.autograd.backward(loss)
            grad = logits.grad
        else:
            predicted = torch.from_numpy(data[f"{case}/pred"]).double().requires_grad_()
            terms = offset_loss(predicted, torch.from_numpy(data[f"{case}/targ"]).double(), labels)
            # recorded with the foreground counted in float32: 6e-8 of the denominator at most
            np.testing.assert_allclose(terms.detach(), data[f"{case}/loss"], rtol=1e-7, atol=1e-12)
            torch.autograd.backward(terms.sum())
            grad = predicted.grad
        assert grad is not None
        np.testing.assert_allclose(grad, data[f"{case}/grad"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("stem", LOSSES)
def test_focal_loss_at_other_exponents(stem: str) -> None:
    data, meta = arrays("ffb6d", stem), facts("ffb6d", stem)
    checked = 0
    for key, value in meta.items():
        case, _, gamma = key.partition("_gamma")
        if not gamma or case.endswith("_sum"):
            continue
        logits = torch.from_numpy(data[f"{case}/logits"]).double()
        labels = torch.from_numpy(data[f"{case}/labels"]).long()
        assert focal_loss(logits, labels, float(gamma)).item() == pytest.approx(value, rel=1e-9)
        checked += 1
    assert checked
