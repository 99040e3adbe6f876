"""The batches that go from the dataset to the network and the losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.errors import UserError

LEVELS = ("neighbours", "nearest_kept", "pixels_down", "points_down", "pixels_up", "points_up")
"""The fields of `Inputs` that hold one tensor per level."""


class Stacked:
    """Fields that are tensors or tuples of tensors."""

    @classmethod
    def stack(cls, items: Sequence[Self]) -> Self:
        """Stack the tensors of samples."""

        def stack(values: Sequence[Any]) -> Any:
            if isinstance(values[0], tuple):
                return tuple(map(torch.stack, zip(*values, strict=True)))
            return torch.stack(list(values))

        return cls(
            **{name: stack([getattr(item, name) for item in items]) for name in vars(items[0])}
        )


class _Tensors(Stacked):
    """Fields that go to a device as they are."""

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Self:
        """Move to `device`; images and floats become `dtype`, indices and labels int64."""

        def move(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(move, value))
            value = value.to(device, non_blocking=True)  # images as uint8, which is smaller
            is_real = value.is_floating_point() or value.dtype == torch.uint8
            return value.to(dtype if is_real else torch.int64)

        return type(self)(**{name: move(value) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Inputs(_Tensors):
    """The inputs of FFB6D. B batch, N points, N0 = N and N(i+1) = Ni // 4, H x W pixels, k = 16.

    Grids are the image's point map at every s-th pixel, flattened; s is 4, 8, 8, 8 on the way
    down and 4, 2, 2 on the way up. Indices are int32 as loaded and int64 after `to`.

    Attributes:
        rgb: (B, 3, H, W) float32, 0 … 255 (not normalised, as the original trains).
        features: (B, 9, N) float32: x y z in metres (camera frame), r g b 0 … 255, normal.
        choose: (B, N) flat pixel (row * W + column) of every point.
        neighbours: 4 x (B, Ni, k) nearest points of level i in itself, itself first.
        nearest_kept: 4 x (B, Ni, 1) nearest point of level i + 1.
        pixels_down: 4 x (B, N(i+1), k) nearest grid pixels of the points of level i + 1.
        points_down: 4 x (B, HW/s², 1) nearest point of level i + 1 for every grid pixel.
        pixels_up: 3 x (B, Nj, k) for levels j = 3, 2, 1.
        points_up: 3 x (B, HW/s², 1) nearest point of levels 3, 2, 1.
    """

    rgb: Tensor
    features: Tensor
    choose: Tensor
    neighbours: tuple[Tensor, ...]
    nearest_kept: tuple[Tensor, ...]
    pixels_down: tuple[Tensor, ...]
    points_down: tuple[Tensor, ...]
    pixels_up: tuple[Tensor, ...]
    points_up: tuple[Tensor, ...]


@dataclass(frozen=True)
class Targets(_Tensors):
    """The targets of the losses.

    Attributes:
        labels: (B, N) int64 class id of every point, 0 is background.
        keypoint_offsets: (B, N, K, 3) point minus its object's keypoint, metres, 0 on background.
        centre_offsets: (B, N, 3) point minus its object's centre, metres, 0 on background.
    """

    labels: Tensor
    keypoint_offsets: Tensor
    centre_offsets: Tensor


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of one frame with M objects.

    Attributes:
        index: position in the evaluation's frame list.
        name: the frame.
        class_ids: (M,) int32.
        camera_from_object: (M, 3, 4) float32, metres.
        keypoints_camera: (M, K, 3) float32, metres.
        centres_camera: (M, 3) float32, metres.
        intrinsics: (3, 3) float64 camera matrix of the network's input image.
    """

    index: int
    name: str
    class_ids: npt.NDArray[np.int32]
    camera_from_object: npt.NDArray[np.float32]
    keypoints_camera: npt.NDArray[np.float32]
    centres_camera: npt.NDArray[np.float32]
    intrinsics: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One frame prepared for the network: the shapes of `Inputs` and `Targets` without B.

    With DATA.PREPARE device the inputs are `device_prepare.RawInputs` until `PoseBatch.to`.
    """

    inputs: Inputs
    targets: Targets
    gt: GroundTruth


@dataclass(frozen=True)
class SkippedFrame:
    """A frame without enough depth; evaluation counts its objects as missed."""

    gt: GroundTruth
    reason: str


@dataclass(frozen=True)
class PoseBatch:
    """A batch of B samples."""

    inputs: Inputs
    targets: Targets
    gts: tuple[GroundTruth, ...]

    def __len__(self) -> int:
        return len(self.gts)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the frames."""
        return tuple(gt.name for gt in self.gts)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "PoseBatch":
        """Move tensors to `device` and `dtype`."""
        return PoseBatch(self.inputs.to(device, dtype), self.targets.to(device, dtype), self.gts)


def collate(samples: Sequence[Sample]) -> PoseBatch:
    """Stack samples of the same image size and number of points into a batch."""
    inputs = [sample.inputs for sample in samples]
    if len({(item.rgb.shape, item.choose.shape) for item in inputs}) > 1:
        sizes = {sample.gt.name: tuple(sample.inputs.rgb.shape[1:]) for sample in samples}
        raise UserError(
            f"images of different sizes in one batch: {sizes}",
            "use TRAIN.BATCH 1 and TEST.BATCH 1, or resize the images",
        )
    return PoseBatch(
        inputs=type(inputs[0]).stack(inputs),
        targets=Targets.stack([sample.targets for sample in samples]),
        gts=tuple(sample.gt for sample in samples),
    )


def collate_for_evaluation(
    items: Sequence[Sample | SkippedFrame],
) -> tuple[PoseBatch | None, list[SkippedFrame]]:
    """Stack the samples and list the skipped frames."""
    samples = [item for item in items if isinstance(item, Sample)]
    skipped = [item for item in items if isinstance(item, SkippedFrame)]
    return (collate(samples) if samples else None), skipped
