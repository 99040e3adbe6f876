"""The networks for clips: ResNet-50 with a time axis, and blocks that look across frames."""

from collections.abc import Callable
from functools import partial
from typing import cast

from torch import Tensor, nn

from ffreid.engine.modules import Recomputed
from ffreid.reid.model.blocks import AP3D, I3D, NonLocal, frame_convolution
from ffreid.reid.model.resnet import (
    BLOCKS,
    WIDTHS,
    Bottleneck,
    neck,
    stage_channels,
    stage_stride,
)

Middle = Callable[[int, int], nn.Module]
"""Makes the middle convolution of a block from its channels and stride."""

ACROSS_FRAMES = (1, 2)
"""Stages with temporal blocks (every even block) and non-local ones (behind every odd block)."""


class VideoResNet50(nn.Module):
    """ResNet-50 over clips: largest value within each frame, mean over frames, batch norm.

    Attribute names follow the original's state dict; a non-local block takes a place of its own
    in its stage, so that the numbers of the blocks behind it move up. `feature_dim` is D, the
    features' length.

    Args:
        temporal: middle convolution of every second block of stages 2 and 3: ``c2d`` (each frame
            by itself), ``i3d`` (3 x 3 x 3) or ``ap3d``.
        non_local: whether non-local blocks stand behind the other blocks of those stages.
        last_stride: stride of the last stage; at 1 its map is (H/16, W/16), at 2 (H/32, W/32).
        temperature: of ``ap3d``; the others have none.
        contrastive_attention: of ``ap3d``; the others have none.
        recompute: save memory, see `engine.recomputing`.
    """

    def __init__(
        self,
        *,
        temporal: str = "c2d",
        non_local: bool = False,
        last_stride: int = 1,
        temperature: float = 4.0,
        contrastive_attention: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        registering = partial(
            AP3D, temperature=temperature, contrastive_attention=contrastive_attention
        )
        middles: dict[str, Middle | None] = {"c2d": None, "i3d": I3D, "ap3d": registering}
        middle = middles[temporal]
        strides = [stage_stride(stage, last_stride) for stage in range(len(BLOCKS))]
        sequence = Recomputed if recompute else nn.Sequential
        self.feature_dim = stage_channels(len(BLOCKS))
        self.conv1 = frame_convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))
        self.layer1 = sequence(*_stage(0, strides[0], middle, non_local))
        self.layer2 = sequence(*_stage(1, strides[1], middle, non_local))
        self.layer3 = sequence(*_stage(2, strides[2], middle, non_local))
        self.layer4 = sequence(*_stage(3, strides[3], middle, non_local))
        self.bn = neck(self.feature_dim)

    def forward(self, clips: Tensor) -> Tensor:
        """Map normalised RGB clips (B, 3, T, H, W) to features (B, D)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = x.flatten(3).max(3).values.mean(2)
        return cast(Tensor, self.bn(pooled))


def _stage(stage: int, stride: int, middle: Middle | None, non_local: bool) -> list[nn.Module]:
    mixes = stage in ACROSS_FRAMES
    modules: list[nn.Module] = []
    for block in range(BLOCKS[stage]):
        step = stride if block == 0 else 1
        here = middle if mixes and block % 2 == 0 else None
        modules.append(
            Bottleneck(
                stage_channels(stage + (block > 0)),
                WIDTHS[stage],
                step,
                convolve=frame_convolution,
                normalise=nn.BatchNorm3d,
                middle=None if here is None else here(WIDTHS[stage], step),
            )
        )
        if non_local and mixes and block % 2 == 1:
            modules.append(NonLocal(stage_channels(stage + 1)))
    return modules
