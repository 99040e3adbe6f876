"""Stacking samples and moving batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffreid.reid.data.batch import (
    EvalSample,
    Sample,
    UnreadableRecord,
    collate,
    collate_for_evaluation,
)
from ffreid.reid.data.transforms import DEVIATION, ERASED, MEAN

CPU = torch.device("cpu")


def sample(number: int, *broken: str, frames: tuple[int, ...] = ()) -> Sample:
    pixels = np.full((*frames, 4, 2, 3), number, np.uint8)
    return Sample(pixels, identity=number, clothes=10 + number, broken=broken)


@pytest.mark.parametrize("frames", [(), (5,)])
def test_samples_are_stacked_in_order_and_moved(frames: tuple[int, ...]) -> None:
    samples = [sample(255, "a", "b", frames=frames), sample(0, "c", frames=frames)]
    batch = collate(samples)
    assert batch.images.dtype == torch.uint8
    batch = batch.to(CPU, torch.float64)
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, *frames, 4, 2)
    assert batch.images.dtype == torch.float64
    assert torch.equal(batch.images, torch.stack([s.images for s in samples]).double())
    corners = batch.images.flatten(2)[..., 0]
    expected = [(level - MEAN) / DEVIATION for level in (1, 0)]
    np.testing.assert_allclose(corners, expected, rtol=1e-6)
    assert batch.identities.tolist() == [255, 0]
    assert batch.clothes.tolist() == [265, 10]
    assert batch.identities.dtype == batch.clothes.dtype == torch.int64
    assert batch.broken == ("a", "b", "c")


@pytest.mark.parametrize("readable", [[3, 5], []])
def test_evaluation_batches_list_unreadable_records(readable: list[int]) -> None:
    items = [EvalSample(index, np.full((4, 2, 3), index, np.uint8)) for index in readable]
    unreadable = UnreadableRecord(4, "x.jpg", "it is damaged")
    batch = collate_for_evaluation([*items[:1], unreadable, *items[1:]])
    assert batch.index.tolist() == readable
    assert batch.index.dtype == torch.int64
    assert [int(image.max()) for image in batch.images] == readable
    assert batch.broken == (unreadable,)


def test_boxes_are_erased_after_normalising_and_once() -> None:
    erased = replace(sample(9), box=(1, 3, 0, 1))
    batch = collate([sample(9), erased]).to(CPU)
    assert torch.equal(batch.images[1], erased.images)
    difference = (batch.images[0] != batch.images[1]).all(dim=0)
    assert difference.nonzero().tolist() == [[1, 0], [2, 0]]
    assert batch.images[1, :, 1, 0].tolist() == pytest.approx(ERASED)
    assert torch.equal(batch.to(CPU).images, batch.images)
