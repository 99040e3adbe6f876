"""The networks for clips: ResNet-50 with a time axis and temporal blocks."""

from functools import partial
from typing import cast

from torch import Tensor, nn

from ffreid.engine.modules import Recomputed
from ffreid.reid.model.blocks import AP3D, I3D, NonLocal, frame_convolution
from ffreid.reid.model.resnet import OUTPUT_CHANNELS, Middle, neck, stage


class VideoResNet50(nn.Module):
    """ResNet-50 over clips: maximum within each frame, mean over frames, batch norm.

    Attribute names are those of Simple-CCReID's state dicts; a non-local block is a block of its
    stage, which shifts the numbers of those after it. `feature_dim` is D.

    Args:
        temporal: middle convolution of every second block of stages 2 and 3: ``c2d`` (single
            frames), ``i3d`` (3 x 3 x 3) or ``ap3d``.
        non_local: add non-local blocks after the other blocks of those stages.
        last_stride: of the last stage, whose map is (H/16, W/16) with 1, (H/32, W/32) with 2.
        temperature, contrastive_attention: of ``ap3d``.
        recompute: activation checkpointing.
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
        ap3d = partial(AP3D, temperature=temperature, contrastive_attention=contrastive_attention)
        middles: dict[str, Middle | None] = {"c2d": None, "i3d": I3D, "ap3d": ap3d}
        sequence = Recomputed if recompute else nn.Sequential
        self.feature_dim = OUTPUT_CHANNELS
        self.conv1 = frame_convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))
        blocks = partial(stage, convolve=frame_convolution, norm=nn.BatchNorm3d)
        temporal_blocks = partial(
            blocks, middle=middles[temporal], between=NonLocal if non_local else None
        )
        self.layer1 = sequence(*blocks(0, last_stride))
        self.layer2 = sequence(*temporal_blocks(1, last_stride))
        self.layer3 = sequence(*temporal_blocks(2, last_stride))
        self.layer4 = sequence(*blocks(3, last_stride))
        self.bn = neck(self.feature_dim)

    def forward(self, clips: Tensor) -> Tensor:
        """Map normalised RGB clips (B, 3, T, H, W) to features (B, D)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = x.flatten(3).max(3).values.mean(2)
        return cast(Tensor, self.bn(pooled))
