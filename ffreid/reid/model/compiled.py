"""The networks for evaluation: the trained function in fewer operations.

Built once from a network, which stays what is trained and what tests compare with. All of it is
exact but for rounding:

- Batch norm is folded into the convolution before it.
- Pixels are rows (channels last), a few images at a time, so that their maps stay in the cache.
- A network of clips is one of images, except for its temporal blocks.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ffreid.engine.modules import channels_last
from ffreid.engine.precision import upcast_half
from ffreid.reid.model.image import ImageResNet50, Pooling
from ffreid.reid.model.resnet import Bottleneck
from ffreid.reid.model.video import VideoResNet50

AT_ONCE = 8
"""Images, or frames of whole clips, that a CPU computes at once."""


class CompiledResNet50(nn.Module):
    """A network in evaluation mode, on the device of `net`; later changes to it have no effect.

    `dtype` is that of the convolutions; pooling and the last batch norm remain in float32.
    """

    def __init__(self, net: ImageResNet50 | VideoResNet50, dtype: torch.dtype) -> None:
        super().__init__()
        net = deepcopy(net).eval()
        self.dtype, self.clips = dtype, _ClipLength()
        if isinstance(net, VideoResNet50):
            layers = (net.layer1, net.layer2, net.layer3, net.layer4)
            self.base = nn.Sequential(net.conv1, net.bn1, net.relu, nn.MaxPool2d(3, 2, 1), *layers)
            self.pooling: nn.Module = Pooling("max")
        else:
            self.base, self.pooling = net.base, net.globalpooling
        self.neck = net.bn
        self._compile(self.base, "0", "1")
        for stage in list(self.base)[4:]:
            for name, block in stage.named_children():
                if not isinstance(block, Bottleneck):
                    setattr(stage, name, _OverClips(block, self.clips))
                    continue
                for number in "123":
                    self._compile(block, f"conv{number}", f"bn{number}")
                if block.downsample is not None:
                    self._compile(block.downsample, "0", "1")
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.to(dtype)
        channels_last(self)
        self.requires_grad_(False)

    def _compile(self, parent: nn.Module, convolution: str, norm: str) -> None:
        """Fold a batch norm into a convolution of single frames, or join it to a temporal block."""
        first, second = parent.get_submodule(convolution), parent.get_submodule(norm)
        folded: nn.Module
        if isinstance(first, nn.Conv2d | nn.Conv3d):
            folded = _of_images(fuse_conv_bn_eval(first, cast(nn.BatchNorm2d, second)))
        else:
            folded = _OverClips(nn.Sequential(first, second), self.clips)
        setattr(parent, convolution, folded)
        setattr(parent, norm, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) or (B, 3, T, H, W) to features (B, D)."""
        if images.device.type != "cpu":
            return self._features(images)
        size = max(1, AT_ONCE // images.shape[2]) if images.dim() == 5 else AT_ONCE
        return torch.cat([self._features(part) for part in torch.split(images, size)])

    def _features(self, images: Tensor) -> Tensor:
        count, is_clip = len(images), images.dim() == 5
        if is_clip:
            self.clips.frames = images.shape[2]
            images = images.transpose(1, 2).flatten(0, 1)
        maps = self.base(images.to(self.dtype, memory_format=torch.channels_last))
        pooled = self.pooling(upcast_half(maps))
        if is_clip:
            pooled = pooled.view(count, -1, pooled.shape[1]).mean(1)
        return cast(Tensor, self.neck(pooled))


class _ClipLength:
    """Frames of each clip of a batch."""

    frames = 1


class _OverClips(nn.Module):
    """A block of clips on the frames (B * T, C, h, w) of a batch."""

    def __init__(self, block: nn.Module, clips: _ClipLength) -> None:
        super().__init__()
        self.block, self.clips = block, clips

    def forward(self, frames: Tensor) -> Tensor:
        clips = frames.view(-1, self.clips.frames, *frames.shape[1:]).transpose(1, 2)
        return cast(Tensor, self.block(clips).transpose(1, 2).flatten(0, 1))


def _of_images(convolution: nn.Conv2d | nn.Conv3d) -> nn.Conv2d:
    """A convolution of single frames as one of images."""
    if isinstance(convolution, nn.Conv2d):
        return convolution
    kernel, stride, padding = (
        cast(tuple[int, int], size[1:])
        for size in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    outputs, inputs = convolution.weight.shape[:2]
    plane = nn.Conv2d(inputs, outputs, kernel, stride, padding)
    plane.weight.data, plane.bias = convolution.weight.data.squeeze(2), convolution.bias
    return plane
