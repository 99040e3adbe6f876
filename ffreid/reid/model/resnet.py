"""Common parts of the image and the clip ResNet-50 (He et al., CVPR 2016)."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
OUTPUT_CHANNELS = EXPANSION * WIDTHS[-1]

Convolution = Callable[[int, int, int, int], nn.Module]
"""A convolution from input channels, output channels, kernel size and stride."""
Middle = Callable[[int, int], nn.Module]
"""The middle convolution of a block, from its channels and stride."""


class Bottleneck(nn.Module):
    """1 x 1, k x k and 1 x 1 convolution with a shortcut; the middle one has the stride.

    `width` are the inner channels; the output has four times as many. `middle` replaces the middle
    convolution.
    """

    def __init__(
        self,
        channels_in: int,
        width: int,
        stride: int,
        *,
        convolve: Convolution,
        normalise: Callable[[int], nn.Module],
        middle: nn.Module | None = None,
    ) -> None:
        super().__init__()
        channels_out = EXPANSION * width
        self.conv1 = convolve(channels_in, width, 1, 1)
        self.bn1 = normalise(width)
        self.conv2 = convolve(width, width, 3, stride) if middle is None else middle
        self.bn2 = normalise(width)
        self.conv3 = convolve(width, channels_out, 1, 1)
        self.bn3 = normalise(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                convolve(channels_in, channels_out, 1, stride), normalise(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, ..., h, w) to (B, 4 width, ..., h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return cast(Tensor, self.relu(self.bn3(self.conv3(x)) + shortcut))


def stage(
    index: int,
    last_stride: int,
    *,
    convolve: Convolution,
    norm: Callable[[int], nn.Module],
    middle: Middle | None = None,
    between: Callable[[int], nn.Module] | None = None,
) -> list[nn.Module]:
    """Build the blocks of stage 0 to 3, with 2D or 3D convolutions and batch norms.

    `middle` replaces the middle convolution of even blocks; `between` makes a module from the
    channels after each odd block.
    """
    width, modules = WIDTHS[index], list[nn.Module]()
    for block in range(BLOCKS[index]):
        first = EXPANSION * WIDTHS[index - 1] if index else 64
        stride = 1 if block else (1, 2, 2, last_stride)[index]
        replaced = middle(width, stride) if middle is not None and block % 2 == 0 else None
        modules.append(
            Bottleneck(
                EXPANSION * width if block else first,
                width,
                stride,
                convolve=convolve,
                normalise=norm,
                middle=replaced,
            )
        )
        if between is not None and block % 2 == 1:
            modules.append(between(EXPANSION * width))
    return modules


def neck(channels: int) -> nn.BatchNorm1d:
    """Batch norm after the pooling, with weights from N(1, 0.02) and bias 0."""
    norm = nn.BatchNorm1d(channels)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return norm
