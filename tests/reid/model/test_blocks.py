"""Initial outputs of the blocks over several frames."""

from collections.abc import Iterator

import pytest
import torch

from ffreid.reid.model.blocks import AP3D, I3D, NonLocal


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


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
