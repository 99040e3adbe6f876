"""The network for images: ResNet-50, a pooling and a batch norm."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.engine.modules import Recomputed
from ffreid.engine.precision import upcast_half
from ffreid.reid.model.resnet import BLOCKS, OUTPUT_CHANNELS, neck, stage


def plane_convolution(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1
) -> nn.Module:
    """k x k convolution with padding k // 2, without bias, with He initialisation."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


class Pooling(nn.Module):
    """Maximum of each channel (``max``), mean (``avg``), or both (``maxavg``)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C); ``maxavg`` to (B, 2C): maxima of all channels, then means."""
        pooled = []
        if "max" in self.name:
            # Not adaptive_max_pool2d: its gradient is not deterministic on a GPU.
            pooled.append(x.flatten(2).max(2).values)
        if "avg" in self.name:
            pooled.append(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return torch.cat(pooled, 1)


class GeneralisedMeanPooling(nn.Module):
    """Mean of x^p, to the power 1/p, with a learned p (Radenović et al., TPAMI 2019, eq. 3)."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(power)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C)."""
        # float32: 41^3 overflows float16.
        powers: Tensor = upcast_half(x).clamp(min=1e-6) ** self.p
        return powers.mean((2, 3)) ** (1.0 / self.p)


POOLINGS: dict[str, Callable[[float], nn.Module]] = {
    "avg": lambda _: Pooling("avg"),
    "max": lambda _: Pooling("max"),
    "gem": GeneralisedMeanPooling,
    "maxavg": lambda _: Pooling("maxavg"),
}


class ImageResNet50(nn.Module):
    """ResNet-50 with pooled and batch-normalised features, for training and retrieval.

    Attribute names are those of Simple-CCReID's state dicts. `feature_dim` is D.

    Args:
        pooling: a name in `POOLINGS`; ``maxavg`` doubles D.
        gem_power: initial p of ``gem``.
        last_stride: of the last stage, whose map is (H/16, W/16) with 1, (H/32, W/32) with 2.
        recompute: activation checkpointing.
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
        self.feature_dim = OUTPUT_CHANNELS * (2 if pooling == "maxavg" else 1)
        self.base = nn.Sequential(
            plane_convolution(3, 64, 7, 2),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
            *(
                sequence(*stage(i, last_stride, convolve=plane_convolution, norm=nn.BatchNorm2d))
                for i in range(len(BLOCKS))
            ),
        )
        self.globalpooling = POOLINGS[pooling](gem_power)
        self.bn = neck(self.feature_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised RGB images (B, 3, H, W) to features (B, D)."""
        return cast(Tensor, self.bn(self.globalpooling(self.base(images))))
