"""Layers shared by both branches of FFB6D, and gathering by neighbour index."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

Family = Literal["fusion", "randla"]


class Pointwise(nn.Module):
    """1 x 1 convolution, batch norm, activation, under the originals' parameter names.

    The two families differ in names and constants: ``fusion`` (fusion layers and heads) has
    ``normlayer.bn`` with eps 1e-5, momentum 0.1 and ReLU; ``randla`` has ``bn.bn`` with eps 1e-6,
    momentum 0.99 (running statistics are almost the last batch's) and LeakyReLU(0.2).

    `dimensions` are 1 for (B, C, N), 2 for (B, C, N, k). Without batch norm there is a bias.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        family: Family,
        *,
        dimensions: Literal[1, 2] = 2,
        norm: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        convolution = nn.Conv1d if dimensions == 1 else nn.Conv2d
        batch_norm = nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d
        self.conv = convolution(channels_in, channels_out, 1, bias=not norm)
        nn.init.kaiming_normal_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm_name = "normlayer" if family == "fusion" else "bn"
        if norm:
            eps, momentum = (1e-5, 0.1) if family == "fusion" else (1e-6, 0.99)
            layer = batch_norm(channels_out, eps=eps, momentum=momentum)
            self.add_module(self.norm_name, nn.Sequential(OrderedDict(bn=layer)))
        self.norm = norm
        self.activation: nn.Module = nn.Identity()
        if activation:
            relu = nn.ReLU(inplace=True)
            self.activation = relu if family == "fusion" else nn.LeakyReLU(0.2, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C_in, ...) to (B, C_out, ...)."""
        features = self.conv(features)
        if self.norm:
            features = self.get_submodule(self.norm_name)(features)
        result: Tensor = self.activation(features)
        return result


def gather(features: Tensor, indices: Tensor) -> Tensor:
    """Gather columns: (B, C, N) at (B, M, k) to (B, C, M, k)."""
    batch, channels, _ = features.shape
    _, rows, k = indices.shape
    flat = indices.reshape(batch, 1, rows * k).expand(-1, channels, -1)
    return torch.gather(features, 2, flat).view(batch, channels, rows, k)


def gather_max(features: Tensor, indices: Tensor) -> Tensor:
    """Pool over neighbours: (B, C, N) at (B, M, k) to (B, C, M, 1)."""
    # max, not amax: with ties the gradient goes to one neighbour, as in the original.
    return gather(features, indices).max(dim=3, keepdim=True).values
