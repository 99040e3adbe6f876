"""Stacking samples and moving batches."""

import pytest
import torch

from ffreid.reid.data.batch import (
    EvalSample,
    Sample,
    UnreadableRecord,
    collate,
    collate_for_evaluation,
)

CPU = torch.device("cpu")


def sample(number: int, *broken: str, frames: tuple[int, ...] = ()) -> Sample:
    images = torch.full((3, *frames, 4, 2), float(number))
    return Sample(images, identity=number, clothes=10 + number, broken=broken)


@pytest.mark.parametrize("frames", [(), (5,)])
def test_samples_are_stacked_in_order_and_moved(frames: tuple[int, ...]) -> None:
    batch = collate([sample(1, "a", "b", frames=frames), sample(0, "c", frames=frames)])
    batch = batch.to(CPU, torch.float64)
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, *frames, 4, 2)
    assert batch.images.dtype == torch.float64
    assert batch.images.flatten(1)[:, 0].tolist() == [1, 0]
    assert batch.identities.tolist() == [1, 0]
    assert batch.clothes.tolist() == [11, 10]
    assert batch.identities.dtype == batch.clothes.dtype == torch.int64
    assert batch.broken == ("a", "b", "c")


@pytest.mark.parametrize("readable", [[3, 5], []])
def test_evaluation_batches_list_unreadable_records(readable: list[int]) -> None:
    items = [EvalSample(index, torch.full((3, 4, 2), float(index))) for index in readable]
    unreadable = UnreadableRecord(4, "x.jpg", "it is damaged")
    batch = collate_for_evaluation([*items[:1], unreadable, *items[1:]])
    assert batch.index.tolist() == readable
    assert batch.index.dtype == torch.int64
    assert [float(image.mean()) for image in batch.images] == readable
    assert batch.broken == (unreadable,)
