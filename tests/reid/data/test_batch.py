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


def sample(number: int, *, broken: tuple[str, ...] = (), frames: tuple[int, ...] = ()) -> Sample:
    images = torch.full((3, *frames, 4, 2), float(number))
    return Sample(images, identity=number, camera=7, clothes=10 + number, broken=broken)


def item(index: int) -> EvalSample:
    return EvalSample(index, torch.full((3, 4, 2), float(index)))


@pytest.mark.parametrize("frames", [(), (5,)])
def test_samples_are_stacked_in_order(frames: tuple[int, ...]) -> None:
    batch = collate([sample(1, frames=frames), sample(0, frames=frames)])
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, *frames, 4, 2)
    assert batch.images.flatten(1)[:, 0].tolist() == [1, 0]
    assert batch.identities.tolist() == [1, 0]
    assert batch.clothes.tolist() == [11, 10]
    assert batch.identities.dtype == batch.clothes.dtype == torch.int64


def test_broken_files_are_gathered() -> None:
    batch = collate([sample(0, broken=("a", "b")), sample(1), sample(2, broken=("c",))])
    assert batch.broken == ("a", "b", "c")


def test_only_images_change_their_type() -> None:
    batch = collate([sample(1, broken=("a",))]).to(CPU, torch.float64)
    assert batch.images.dtype == torch.float64
    assert batch.identities.dtype == batch.clothes.dtype == torch.int64
    assert batch.broken == ("a",)


def test_evaluation_stacks_what_can_be_read_and_lists_the_rest() -> None:
    lost = UnreadableRecord(4, "x.jpg", "it is damaged")
    batch = collate_for_evaluation([item(3), lost, item(5)])
    assert len(batch) == 2
    assert batch.index.tolist() == [3, 5]
    assert batch.images.flatten(1)[:, 0].tolist() == [3, 5]
    assert batch.broken == (lost,)


def test_an_evaluation_batch_of_broken_records_alone_is_empty() -> None:
    batch = collate_for_evaluation([UnreadableRecord(0, "x.jpg", "why")]).to(CPU, torch.float64)
    assert len(batch) == len(batch.index) == 0
    assert batch.index.dtype == torch.int64
    assert len(batch.broken) == 1


def test_only_an_evaluations_images_change_their_type() -> None:
    batch = collate_for_evaluation([item(3)]).to(CPU, torch.float64)
    assert batch.images.dtype == torch.float64
    assert batch.index.dtype == torch.int64
