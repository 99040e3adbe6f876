"""Temporal blocks: inflated convolutions, AP3D and non-local blocks.

Attribute names are those of Simple-CCReID's state dicts.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.engine.precision import in_float32, upcast_half


def frame_convolution(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1
) -> nn.Module:
    """1 x k x k convolution of single frames, without bias, with He initialisation."""
    convolution = nn.Conv3d(
        channels_in,
        channels_out,
        (1, kernel, kernel),
        (1, stride, stride),
        padding=(0, kernel // 2, kernel // 2),
        bias=False,
    )
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Unscaled attention of (..., N, D) to (..., M, D) and values (..., M, C): (..., N, C)."""
    # Not the fused kernels: they are not deterministic on a GPU.
    return _weights(queries, keys).to(values.dtype) @ values


@in_float32
def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    """The softmax only: products over hundreds of channels overflow float16."""
    return (queries @ keys.transpose(-1, -2)).softmax(-1)


class I3D(nn.Module):
    """A 3 x 3 x 3 convolution inflated from a 3 x 3 one (Carreira and Zisserman, CVPR 2017).

    The middle slice has He initialisation, the slices of the frames before and after are zero.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, channels, 3, (1, stride, stride), padding=1, bias=False)
        with torch.no_grad():
            self.conv3d.weight.zero_()
            std = math.sqrt(2.0 / (channels * 9))
            self.conv3d.weight[:, :, 1].normal_(0.0, std)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, h, w) to (B, C, T, h / stride, w / stride)."""
        return cast(Tensor, self.conv3d(clips))


class AppearancePreservingModule(nn.Module):
    """Aligns the frames before and after with each frame (Gu et al., ECCV 2020)."""

    def __init__(
        self, channels: int, *, temperature: float = 4.0, contrastive_attention: bool = True
    ) -> None:
        super().__init__()
        reduced = channels // 16
        self.temperature = temperature
        self.semantic_mapping = nn.Conv3d(channels, reduced, 1, bias=False)
        self.contrastive_att_net: nn.Module | None = None
        if contrastive_attention:
            self.x_mapping = nn.Conv3d(channels, reduced, 1, bias=False)
            self.n_mapping = nn.Conv3d(channels, reduced, 1, bias=False)
            self.contrastive_att_net = nn.Sequential(
                nn.Conv3d(reduced, 1, 1, bias=False), nn.Sigmoid()
            )

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, h, w) to (B, C, 3T, h, w): frame before, frame, frame after, for each."""
        # float32: float16 rounds the epsilon of the normalisation to 0.
        semantics = _tokens(F.normalize(upcast_half(self.semantic_mapping(clips)), dim=1))
        # A frame of zeros at both ends: it matches everywhere equally and adds nothing.
        padded_semantics = F.pad(semantics, (0, 0, 0, 0, 1, 1))
        padded = F.pad(_tokens(clips), (0, 0, 0, 0, 1, 1))
        neighbours = []
        for start in (0, 2):
            frames = slice(start, start + clips.shape[2])
            aligned = attend(
                self.temperature * semantics, padded_semantics[:, frames], padded[:, frames]
            )
            aligned = aligned.permute(0, 3, 1, 2).reshape(clips.shape)
            neighbours.append(self._weight(aligned, clips))
        before, after = neighbours
        return torch.stack([before, clips, after], 3).flatten(2, 3)

    def _weight(self, aligned: Tensor, clips: Tensor) -> Tensor:
        if self.contrastive_att_net is None:
            return aligned
        # The attention's gradient must not reach the features that it compares.
        match = self.x_mapping(clips.detach()) * self.n_mapping(aligned.detach())
        return cast(Tensor, aligned * self.contrastive_att_net(match))


class AP3D(nn.Module):
    """1 x 3 x 3 convolution with a residual 3 x 1 x 1 convolution over aligned frames.

    The temporal part starts at zero, so the block starts as a 2D one.
    """

    def __init__(self, channels: int, stride: int, **options: Any) -> None:
        super().__init__()
        self.APM = AppearancePreservingModule(channels, **options)
        self.spatial_conv3d = frame_convolution(channels, channels, 3, stride)
        self.temporal_conv3d = nn.Conv3d(channels, channels, (3, 1, 1), (3, 1, 1), bias=False)
        nn.init.zeros_(self.temporal_conv3d.weight)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, h, w) to (B, C, T, h / stride, w / stride)."""
        clips = self.spatial_conv3d(clips)
        return cast(Tensor, clips + self.temporal_conv3d(self.APM(clips)))


class NonLocal(nn.Module):
    """Non-local block over all positions of all frames (Wang et al., CVPR 2018, eq. 6).

    Starts as the identity. Keys and values are max-pooled 2 x 2 within a frame; h and w >= 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        pool = nn.MaxPool3d((1, 2, 2))
        self.g = nn.Sequential(nn.Conv3d(channels, half, 1), pool)
        self.theta = nn.Conv3d(channels, half, 1)
        self.phi = nn.Sequential(nn.Conv3d(channels, half, 1), pool)
        self.W = nn.Sequential(nn.Conv3d(half, channels, 1), nn.BatchNorm3d(channels))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / module.out_channels))
            elif isinstance(module, nn.BatchNorm3d):
                nn.init.zeros_(module.weight)

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, C, T, h, w) to the same shape."""
        queries, keys, values = (
            part(clips).flatten(2).transpose(1, 2) for part in (self.theta, self.phi, self.g)
        )
        attended = attend(queries, keys, values).transpose(1, 2)
        attended = attended.reshape(clips.shape[0], -1, *clips.shape[2:])
        return cast(Tensor, self.W(attended) + clips)


def _tokens(clips: Tensor) -> Tensor:
    """(B, C, T, h, w) to (B, T, h w, C)."""
    return clips.flatten(3).permute(0, 2, 3, 1)
