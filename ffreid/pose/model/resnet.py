"""The colour branch: ResNet-34 to stride 8 and PSPNet (Zhao et al., CVPR 2017), as in FFB6D.

The original requests dilated layers 3 and 4, but they run undilated at stride 1.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.engine.checkpoints.pretrained import imagenet_weights, wrong_network_error

PLACES = {
    "conv1": "cnn_pre_stages.0",
    "bn1": "cnn_pre_stages.1",
    "layer1": "cnn_ds_stages.0",
    "layer2": "cnn_ds_stages.1",
    "layer3": "cnn_ds_stages.2.0",
    "layer4": "cnn_ds_stages.2.1",
}
"""FFB6D's name of each part of torchvision's ``resnet34`` but the classifier."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al., CVPR 2016), without dilation."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(x)) + shortcut))


def _layer(channels_in: int, channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(channels_in, channels, stride),
        *(BasicBlock(channels, channels) for _ in range(blocks - 1)),
    )


class CellMeans(nn.Module):
    """Means over `cells` x `cells` cells, as in nn.AdaptiveAvgPool2d."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, cells, cells)."""
        if not torch.are_deterministic_algorithms_enabled():
            return F.adaptive_avg_pool2d(x, self.cells)
        # Matrix products: the above has no deterministic gradient on a GPU.
        rows, columns = (self._shares(length, x) for length in x.shape[2:])
        return rows @ x @ columns.T

    def _shares(self, length: int, like: Tensor) -> Tensor:
        """(cells, length) weight of each position in each cell's mean."""
        shares = like.new_zeros(self.cells, length)
        for cell in range(self.cells):
            first, behind = cell * length // self.cells, -(-(cell + 1) * length // self.cells)
            shares[cell, first:behind] = 1.0 / (behind - first)
        return shares


class PyramidPooling(nn.Module):
    """Means over 1, 2, 3 and 6 cells per side, a 1 x 1 convolution each, then a bottleneck."""

    def __init__(self, channels: int = 512, channels_out: int = 1024) -> None:
        super().__init__()
        sizes = (1, 2, 3, 6)
        self.stages = nn.ModuleList(
            nn.Sequential(CellMeans(size), nn.Conv2d(channels, channels, 1, bias=False))
            for size in sizes
        )
        self.bottleneck = nn.Conv2d(channels * (len(sizes) + 1), channels_out, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 512, h, w) to (B, 1024, h, w)."""
        size = x.shape[2:]
        pooled = [
            F.interpolate(stage(x), size=size, mode="bilinear", align_corners=False)
            for stage in self.stages
        ]
        return cast(Tensor, self.relu(self.bottleneck(torch.cat([*pooled, x], dim=1))))


class Upsample(nn.Module):
    """Double the size bilinearly (corners aligned), 3 x 3 convolution, batch norm, PReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.PReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, 2h, 2w)."""
        return cast(Tensor, self.conv(x))


def stem() -> nn.Sequential:
    """Map (B, 3, H, W) to (B, 64, H/4, W/4)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def down_stages() -> nn.ModuleList:
    """Four stages: 64 at stride 4, then 128, 512 and (pyramid pooling) 1024 at stride 8."""
    return nn.ModuleList(
        [
            _layer(64, 64, 3),
            _layer(64, 128, 4, stride=2),
            nn.Sequential(_layer(128, 256, 6), _layer(256, 512, 3)),
            nn.Sequential(PyramidPooling(), nn.Dropout2d(0.3)),
        ]
    )


def up_stages() -> nn.ModuleList:
    """Four stages: 256 at stride 4, 64 at 2, log-probabilities at 2, log-probabilities at 1.

    The last convolution is used twice, as the third stage and after the last upsampling, so it has
    two names in the state dict.
    """
    dropout = nn.Dropout2d(0.15)
    final = nn.Sequential(nn.Conv2d(64, 64, 1), nn.LogSoftmax(dim=1))
    return nn.ModuleList(
        [
            nn.Sequential(Upsample(1024, 256), dropout),
            nn.Sequential(Upsample(256, 64), dropout),
            nn.Sequential(final),
            nn.Sequential(Upsample(64, 64), final),
        ]
    )


def load_backbone(net: nn.Module, source: str) -> None:
    """Load ResNet-34's ImageNet weights into FFB6D.

    `source` is ``imagenet`` (torchvision's, downloaded or from its cache), ``random`` (no change),
    or the path of torchvision's file.
    """
    if source == "random":
        return
    state = imagenet_weights("ResNet34", source)
    current = net.state_dict()
    renamed = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part in PLACES:
            renamed[f"{PLACES[part]}.{rest}"] = value
    prefixes = ("cnn_pre_stages", *(f"cnn_ds_stages.{i}" for i in range(3)))
    expected = [key for key in current if key.startswith(prefixes)]
    # Files older than PyTorch 0.4.1 have no step counters.
    missing = [k for k in expected if k not in renamed and not k.endswith("num_batches_tracked")]
    mismatched = [k for k, v in renamed.items() if k in current and v.shape != current[k].shape]
    unknown = [k for k in renamed if k not in current]
    if missing or mismatched or unknown:
        raise wrong_network_error("ResNet34", source, (missing or mismatched or unknown)[0])
    net.load_state_dict(current | renamed)
