"""Samples and batches for the network and the losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """A training image (3, H, W) or clip (3, T, H, W), float32 and normalised, with its labels.

    `broken` are unreadable files that it replaces, `name` is the file of its first image.
    """

    images: Tensor
    identity: int
    clothes: int
    broken: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class EvalSample:
    """Image or clip of record `index` of an evaluation, as in `Sample`."""

    index: int
    images: Tensor


@dataclass(frozen=True)
class UnreadableRecord:
    """Record `index` of an evaluation, skipped as its file `path` cannot be read."""

    index: int
    path: str
    reason: str


@dataclass(frozen=True)
class ReidBatch:
    """B training samples: images (B, 3, H, W) or (B, 3, T, H, W), and labels (B,) int64."""

    images: Tensor
    identities: Tensor
    clothes: Tensor
    broken: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "ReidBatch":
        """Move to `device`; images become `dtype`, labels stay int64."""
        return replace(
            self,
            images=self.images.to(device, dtype, non_blocking=True),
            identities=self.identities.to(device, non_blocking=True),
            clothes=self.clothes.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class EvalBatch:
    """The B readable records of an evaluation batch, perhaps 0, and the unreadable ones.

    `index` is (B,) int64, `images` (B, 3, H, W) or (B, 3, T, H, W), or (0,) if B is 0.
    """

    index: Tensor
    images: Tensor
    broken: tuple[UnreadableRecord, ...] = ()


def collate(samples: Sequence[Sample]) -> ReidBatch:
    """Stack samples."""
    return ReidBatch(
        images=torch.stack([sample.images for sample in samples]),
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
        images=torch.stack([item.images for item in readable]) if readable else torch.empty(0),
        broken=tuple(item for item in items if isinstance(item, UnreadableRecord)),
    )
