"""The point branch: RandLA-Net's blocks (Hu et al., CVPR 2020)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.pose.model.layers import Pointwise, gather


def relative_positions(points: Tensor, indices: Tensor) -> Tensor:
    """|p - q|, p - q, p, q for each neighbour q of each point p (RandLA-Net, eq. 1).

    Maps (B, N, 3) metres and (B, N, k) indices of the neighbours to (B, 10, N, k).
    """
    centre = points.transpose(1, 2)
    neighbour = gather(centre, indices)
    centre = centre.unsqueeze(3).expand_as(neighbour)
    offset = centre - neighbour
    distance = offset.square().sum(dim=1, keepdim=True).sqrt()
    return torch.cat([distance, offset, centre, neighbour], dim=1)


class AttentivePooling(nn.Module):
    """Sum the neighbours weighted by a learned softmax over them, then a shared layer."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels_in, channels_in, 1, bias=False)
        self.mlp = Pointwise(channels_in, channels_out, "randla")

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C_in, N, k) to (B, C_out, N, 1)."""
        weights = F.softmax(self.fc(features), dim=3)
        return cast(Tensor, self.mlp((features * weights).sum(dim=3, keepdim=True)))


class LocalAggregation(nn.Module):
    """Two rounds of attentive pooling of neighbour features concatenated with positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.mlp1 = Pointwise(10, half, "randla")
        self.att_pooling_1 = AttentivePooling(channels, half)
        self.mlp2 = Pointwise(half, half, "randla")
        self.att_pooling_2 = AttentivePooling(channels, channels)

    def forward(self, points: Tensor, features: Tensor, indices: Tensor) -> Tensor:
        """Map (B, N, 3), (B, D/2, N, 1) and (B, N, k) to (B, D, N, 1)."""
        position = self.mlp1(relative_positions(points, indices))
        neighbours = gather(features.squeeze(3), indices)
        pooled = self.att_pooling_1(torch.cat([neighbours, position], dim=1))
        position = self.mlp2(position)
        neighbours = gather(pooled.squeeze(3), indices)
        return cast(Tensor, self.att_pooling_2(torch.cat([neighbours, position], dim=1)))


class ResidualBlock(nn.Module):
    """RandLA-Net's dilated residual block: `channels_in` to 2 x `channels`."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.mlp1 = Pointwise(channels_in, channels // 2, "randla")
        self.lfa = LocalAggregation(channels)
        self.mlp2 = Pointwise(channels, channels * 2, "randla", activation=False)
        self.shortcut = Pointwise(channels_in, channels * 2, "randla", activation=False)

    def forward(self, points: Tensor, features: Tensor, indices: Tensor) -> Tensor:
        """Map (B, N, 3), (B, C_in, N, 1) and (B, N, k) to (B, 2D, N, 1)."""
        inner = self.mlp2(self.lfa(points, self.mlp1(features), indices))
        return F.leaky_relu(inner + self.shortcut(features), 0.2)
