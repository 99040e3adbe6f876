"""Samples and batches for the network and the losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ffreid.reid.data.pictures import Pixels
from ffreid.reid.data.transforms import Box, erase, normalise, prepared


@dataclass(frozen=True)
class Sample:
    """A training image (H, W, 3) or clip (T, H, W, 3) with its labels.

    `broken` are unreadable files that it replaces, `name` is the file of its first image, `box`
    what is erased in the batch.
    """

    pixels: Pixels
    identity: int
    clothes: int
    broken: tuple[str, ...] = ()
    name: str = ""
    box: Box | None = None

    @property
    def images(self) -> Tensor:
        """The normalised image (3, H, W) or clip (3, T, H, W), float32."""
        return prepared(self.pixels, self.box)


@dataclass(frozen=True)
class EvalSample:
    """Image or clip of record `index` of an evaluation, as in `Sample`."""

    index: int
    pixels: Pixels

    @property
    def images(self) -> Tensor:
        """The normalised image (3, H, W) or clip (3, T, H, W), float32."""
        return prepared(self.pixels)


@dataclass(frozen=True)
class UnreadableRecord:
    """Record `index` of an evaluation, skipped as its file `path` cannot be read."""

    index: int
    path: str
    reason: str


@dataclass(frozen=True)
class ReidBatch:
    """B training samples with labels (B,) int64.

    Images (B, 3, H, W) or clips (B, 3, T, H, W), or uint8 pixels (B, H, W, 3) or (B, T, H, W, 3),
    of which `to` makes them: a quarter of the bytes. `boxes` are to be erased.
    """

    images: Tensor
    identities: Tensor
    clothes: Tensor
    broken: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    boxes: tuple[Box | None, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "ReidBatch":
        """Move to `device`; pixels become images, normalised and erased, labels stay int64."""
        return replace(
            self,
            images=to_images(self.images, device, dtype, self.boxes),
            boxes=(),
            identities=self.identities.to(device, non_blocking=True),
            clothes=self.clothes.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class EvalBatch:
    """The B readable records of an evaluation batch, perhaps 0, and the unreadable ones.

    `index` is (B,) int64, `images` as in `ReidBatch`, or (0,) if B is 0.
    """

    index: Tensor
    images: Tensor
    broken: tuple[UnreadableRecord, ...] = ()


def to_images(
    images: Tensor, device: torch.device, dtype: torch.dtype, boxes: Sequence[Box | None] = ()
) -> Tensor:
    """Move the images of a batch to `device`; pixels are normalised, and their `boxes` erased."""
    if images.dtype != torch.uint8:
        return images.to(device, dtype, non_blocking=True)
    normalised = normalise(images, device)
    for image, box in zip(normalised, boxes, strict=False):
        erase(image, box)
    return normalised.to(dtype)


def collate(samples: Sequence[Sample]) -> ReidBatch:
    """Stack samples."""
    return ReidBatch(
        images=_stack([sample.pixels for sample in samples]),
        boxes=tuple(sample.box for sample in samples),
        identities=torch.tensor([sample.identity for sample in samples]),
        clothes=torch.tensor([sample.clothes for sample in samples]),
        broken=tuple(path for sample in samples for path in sample.broken),
        names=tuple(sample.name for sample in samples),
    )


def collate_for_evaluation(items: Sequence[EvalSample | UnreadableRecord]) -> EvalBatch:
    """Stack readable samples and list unreadable records."""
    readable = [item for item in items if isinstance(item, EvalSample)]
    return EvalBatch(
        index=torch.tensor([item.index for item in readable], dtype=torch.int64),
        images=_stack([item.pixels for item in readable]),
        broken=tuple(item for item in items if isinstance(item, UnreadableRecord)),
    )


def _stack(pixels: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)) if pixels else torch.empty(0)
