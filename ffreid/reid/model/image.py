"""The network for pictures: ResNet-50, a pooling and a batch norm."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.engine.modules import Recomputed
from ffreid.engine.precision import upcast_half
from ffreid.reid.model.resnet import (
    BLOCKS,
    WIDTHS,
    Bottleneck,
    neck,
    stage_channels,
    stage_stride,
)


def plane_convolution(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1
) -> nn.Module:
    """Make a biasless k x k convolution that keeps the size at stride 1, initialised as He's."""
    made = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


class MaxPooling(nn.Module):
    """The largest value of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C)."""
        return _largest(x)


class AveragePooling(nn.Module):
    """The mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C)."""
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class GeneralisedMeanPooling(nn.Module):
    """Mean of x^p, to the power 1/p, with one learnt p (Radenović et al., TPAMI 2019, eq. 3).

    Args:
        power: p at the start.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(power)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C)."""
        # Wide: float16 ends below 41^3.
        powers = upcast_half(x).clamp(min=1e-6) ** self.p
        return powers.mean((2, 3)) ** (1.0 / self.p)


class MaxAveragePooling(nn.Module):
    """The largest values of all channels, then the means."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, 2C)."""
        return torch.cat([_largest(x), F.adaptive_avg_pool2d(x, 1).flatten(1)], 1)


def _largest(x: Tensor) -> Tensor:
    # Not adaptive_max_pool2d: on a GPU its gradient is not deterministic.
    return x.flatten(2).max(2).values


POOLINGS: dict[str, Callable[[float], nn.Module]] = {
    "avg": lambda _: AveragePooling(),
    "max": lambda _: MaxPooling(),
    "gem": GeneralisedMeanPooling,
    "maxavg": lambda _: MaxAveragePooling(),
}


class ImageResNet50(nn.Module):
    """ResNet-50 whose features train and search alike: pooled, then batch-normalised.

    Attribute names follow the original's state dict. `feature_dim` is D, the features' length.

    Args:
        pooling: a name in `POOLINGS`; ``maxavg`` doubles D.
        gem_power: p of ``gem`` at the start; the other poolings have none.
        last_stride: stride of the last stage; at 1 its map is (H/16, W/16), at 2 (H/32, W/32).
        recompute: save memory, see `engine.recomputing`.
    """

    def __init__(
        self,
        *,
        pooling: str = "maxavg",
        gem_power: float = 3.0,
        last_stride: int = 1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        sequence = Recomputed if recompute else nn.Sequential
        self.feature_dim = stage_channels(len(BLOCKS)) * (2 if pooling == "maxavg" else 1)
        self.base = nn.Sequential(
            plane_convolution(3, 64, 7, 2),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
            *(
                sequence(*_stage(stage, stage_stride(stage, last_stride)))
                for stage in range(len(BLOCKS))
            ),
        )
        self.globalpooling = POOLINGS[pooling](gem_power)
        self.bn = neck(self.feature_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised RGB images (B, 3, H, W) to features (B, D)."""
        return cast(Tensor, self.bn(self.globalpooling(self.base(images))))


def _stage(stage: int, stride: int) -> list[nn.Module]:
    return [
        Bottleneck(
            stage_channels(stage + (block > 0)),
            WIDTHS[stage],
            stride if block == 0 else 1,
            convolve=plane_convolution,
            normalise=nn.BatchNorm2d,
        )
        for block in range(BLOCKS[stage])
    ]
