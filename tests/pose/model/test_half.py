"""FFB6D in half precision: raw colours from 0 to 255, losses and gradients that stay finite."""

import pytest
import torch

from ffreid.pose.losses import pose_losses
from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.model.resnet import CellMeans
from tests.pose.model.recipes import as_inputs, as_targets, raw_inputs, without_dropout

CLASSES = 5


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_and_gradients_are_finite_and_near_those_of_single_precision(
    half: torch.dtype,
) -> None:
    raw = raw_inputs(7, 2, 32, 32, 256, CLASSES, k=4)
    assert raw["rgb"].max() > 250
    result = []
    for enabled in (True, False):
        torch.manual_seed(0)
        net = without_dropout(FFB6D(CLASSES)).train()
        with torch.autocast("cpu", half, enabled=enabled):
            terms = pose_losses(net(as_inputs(raw)), as_targets(raw), 3.0)
        result.append({name: term.item() for name, term in terms.items()})
        if enabled:
            torch.autograd.backward(list(terms.values()))
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            assert len(gradients) > 300
            assert all(gradient.isfinite().all() for gradient in gradients)
    assert result[0] == pytest.approx(result[1], rel=0.1)


@pytest.mark.parametrize("size", [(6, 6), (60, 80), (7, 11)])
@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_means_over_cells_are_the_same_deterministically(
    cells: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = CellMeans(cells)
    result = []
    for deterministic in (False, True):
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).double()
        x.requires_grad_()
        monkeypatch.setattr(
            torch, "are_deterministic_algorithms_enabled", lambda d=deterministic: d
        )
        means = layer(x)
        means.square().sum().backward()
        result.append((means.detach(), x.grad))
    torch.testing.assert_close(result[1], result[0], rtol=1e-12, atol=1e-12)
