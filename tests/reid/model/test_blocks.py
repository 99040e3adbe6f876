"""Blocks over several frames against loops, and their initial outputs."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.reid.model.blocks import AP3D, I3D, AppearancePreservingModule, NonLocal


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def registered(module: AppearancePreservingModule, frame: Tensor, neighbour: Tensor) -> Tensor:
    """One neighbour (C, h, w) registered onto one frame, position by position."""
    weight = module.semantic_mapping.weight[:, :, 0, 0, 0]
    left, right = (F.normalize(weight @ image.flatten(1), dim=0) for image in (frame, neighbour))
    columns = [
        neighbour.flatten(1) @ (module.temperature * right.T @ left[:, place]).softmax(0)
        for place in range(left.shape[1])
    ]
    return torch.stack(columns, 1).view_as(frame)


def test_registered_frames_equal_a_loop() -> None:
    module = AppearancePreservingModule(32, temperature=2.0, contrastive_attention=False).double()
    clip = torch.randn(1, 32, 3, 2, 3, dtype=torch.float64)
    frames = list(clip[0].unbind(1))
    zeros = torch.zeros_like(frames[0])
    expected = []
    for place, frame in enumerate(frames):
        before = registered(module, frame, frames[place - 1]) if place > 0 else zeros
        after = registered(module, frame, frames[place + 1]) if place < 2 else zeros
        expected += [before, frame, after]
    torch.testing.assert_close(module(clip)[0], torch.stack(expected, 1))


def test_contrastive_attention_weights_only_the_neighbours() -> None:
    module = AppearancePreservingModule(32)
    clip = torch.randn(1, 32, 3, 2, 3)
    weighted = module(clip)
    assert isinstance(module.contrastive_att_net, nn.Module)
    module.contrastive_att_net = None
    unweighted = module(clip)
    torch.testing.assert_close(weighted[:, :, 1::3], unweighted[:, :, 1::3])
    ratio = weighted[:, :, 3] / unweighted[:, :, 3]
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_contrastive_attention_has_gradients_for_its_weights_but_not_its_inputs() -> None:
    module = AppearancePreservingModule(32).double()
    assert isinstance(module.contrastive_att_net, nn.Module)
    clip = torch.randn(1, 32, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    module(clip).sum().backward()
    assert module.x_mapping.weight.grad is not None and module.x_mapping.weight.grad.any()
    assert module.n_mapping.weight.grad is not None and module.n_mapping.weight.grad.any()
    masks: list[Tensor] = []
    net = module.contrastive_att_net
    hook = net.register_forward_hook(lambda _, __, out: masks.append(out.detach()))
    trained = clip.grad
    module(clip)
    hook.remove()
    # With constant masks the gradient of the clip must be the same.
    module.contrastive_att_net = _InTurn(masks)
    copied = clip.detach().requires_grad_()
    module(copied).sum().backward()
    torch.testing.assert_close(trained, copied.grad)


def test_an_initial_ap3d_block_equals_its_spatial_convolution() -> None:
    block = AP3D(32, 2)
    clip = torch.randn(2, 32, 3, 6, 4)
    torch.testing.assert_close(block(clip), block.spatial_conv3d(clip))


def test_an_initial_i3d_block_treats_each_frame_alone() -> None:
    block = I3D(4, 1)
    clip = torch.randn(2, 4, 3, 5, 5)
    frames = torch.cat([block(clip[:, :, [frame]]) for frame in range(3)], dim=2)
    torch.testing.assert_close(block(clip), frames)
    assert block.conv3d.weight[:, :, 1].all()


def test_an_initial_non_local_block_is_the_identity() -> None:
    clip = torch.randn(2, 8, 3, 5, 4)
    torch.testing.assert_close(NonLocal(8)(clip), clip)


def test_a_non_local_block_equals_a_loop() -> None:
    block = NonLocal(8).double().eval()
    nn.init.normal_(block.get_parameter("W.1.weight"))
    clip = torch.randn(1, 8, 2, 4, 4, dtype=torch.float64)
    theta, phi, g = block.theta(clip)[0], block.phi(clip)[0], block.g(clip)[0]
    attended = torch.zeros(4, 2, 4, 4, dtype=torch.float64)
    for place in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(4)).tolist():
        t, row, column = place
        weights = (theta[:, t, row, column] @ phi.flatten(1)).softmax(0)
        attended[:, t, row, column] = g.flatten(1) @ weights
    torch.testing.assert_close(block(clip), clip + block.W(attended[None]))


class _InTurn(nn.Module):
    """Returns the next of `values` at each call."""

    def __init__(self, values: list[Tensor]) -> None:
        super().__init__()
        self.values = iter(values)

    def forward(self, _: Tensor) -> Tensor:
        return next(self.values)
