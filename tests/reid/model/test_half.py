"""The networks in half precision: finite features and gradients."""

import pytest
import torch
from torch import nn

from ffreid.reid.model import NETWORKS
from ffreid.reid.model.blocks import AppearancePreservingModule, NonLocal
from ffreid.reid.model.image import POOLINGS

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("resnet50", torch.bfloat16),
        ("i3dres50", torch.bfloat16),
        ("ap3dnlres50", torch.bfloat16),  # has the blocks of all clip networks
        ("ap3dnlres50", torch.float16),
    ],
)
def test_features_and_gradients_are_finite(name: str, half: torch.dtype) -> None:
    """Clips are not the smallest: for maps of 2 x 2 x 2 torch 2.14 reads out of bounds."""
    torch.manual_seed(0)
    net = NETWORKS[name]().train()
    with torch.autocast("cpu", half):
        features = net(torch.randn(2, 3, *((4,) if name != "resnet50" else ()), 64, 32))
    assert features.isfinite().all()
    features.float().cos().mean().backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_that_of_the_rounded_map(pooling: str, half: torch.dtype) -> None:
    """Cubes of these values exceed the range of float16."""
    layer = POOLINGS[pooling](3.0)
    x = (300.0 * torch.rand(2, 3, 4, 2)).to(half).requires_grad_()
    with torch.autocast("cpu", half):
        result = layer(x)
    torch.testing.assert_close(result.float(), layer(x.detach().float()), rtol=1e-2, atol=0)
    result.float().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("half", HALVES)
def test_attention_over_long_vectors_is_finite(half: torch.dtype) -> None:
    """Products of these queries and keys exceed the range of float16."""
    torch.manual_seed(0)
    block = NonLocal(256)
    nn.init.ones_(block.W.get_parameter("1.weight"))
    clips = 30.0 * torch.randn(2, 256, 2, 4, 4)
    queries = block.theta(clips).flatten(2)
    assert (queries.transpose(1, 2) @ block.phi(clips).flatten(2)).abs().max() > 65504
    clips.requires_grad_()
    with torch.autocast("cpu", half):
        result = block(clips)
    result.float().square().mean().backward()
    assert result.isfinite().all()
    assert clips.grad is not None and clips.grad.isfinite().all()


@pytest.mark.parametrize("half", HALVES)
def test_frames_of_zeros_are_registered(half: torch.dtype) -> None:
    """Their norm 0 is clamped to a number that float16 rounds to 0."""
    module = AppearancePreservingModule(32)
    clips = torch.randn(1, 32, 3, 2, 2)
    clips[:, :, 1] = 0.0
    with torch.autocast("cpu", half):
        assert module(clips).isfinite().all()
