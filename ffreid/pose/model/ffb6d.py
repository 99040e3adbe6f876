"""FFB6D: full flow bidirectional fusion network (He et al., CVPR 2021)."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ffreid.pose.data.batch import Inputs
from ffreid.pose.model import resnet
from ffreid.pose.model.layers import Pointwise, gather, gather_max
from ffreid.pose.model.randla import ResidualBlock

DOWN_COLOUR = (64, 128, 512, 1024)
DOWN_POINT = (64, 128, 256, 512)
UP_COLOUR = (256, 64, 64)
UP_POINT = (256, 128, 64)


@dataclass(frozen=True)
class Outputs:
    """Outputs of the three heads for each point (C classes, K keypoints).

    Attributes:
        segmentation: (B, C, N) logits.
        keypoint_offsets: (B, K, N, 3) point minus keypoint, metres.
        centre_offsets: (B, 1, N, 3) point minus centre, metres.
    """

    segmentation: Tensor
    keypoint_offsets: Tensor
    centre_offsets: Tensor


def _fusion(pairs: list[tuple[int, int]]) -> nn.ModuleList:
    return nn.ModuleList(Pointwise(a, b, "fusion") for a, b in pairs)


def _head(channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        *(Pointwise(128, 128, "fusion", dimensions=1) for _ in range(3)),
        Pointwise(128, channels_out, "fusion", dimensions=1, norm=False, activation=False),
    )


class FFB6D(nn.Module):
    """The network, with the original's parameter names, order and aliases.

    `classes` include the background; `keypoints` are those of one object.
    """

    def __init__(self, classes: int, keypoints: int = 8) -> None:
        super().__init__()
        self.classes, self.keypoints = classes, keypoints
        dc, dp, uc, up = DOWN_COLOUR, DOWN_POINT, UP_COLOUR, UP_POINT
        self.cnn_pre_stages = resnet.stem()
        self.rndla_pre_stages = Pointwise(9, 8, "randla", dimensions=1)
        self.cnn_ds_stages = resnet.down_stages()
        self.rndla_ds_stages = nn.ModuleList(
            ResidualBlock(a, b // 2) for a, b in zip((8, *dp[:3]), dp, strict=True)
        )
        self.ds_fuse_r2p_pre_layers = _fusion(list(zip(dc, dp, strict=True)))
        self.ds_fuse_r2p_fuse_layers = _fusion([(2 * p, p) for p in dp])
        self.ds_fuse_p2r_pre_layers = _fusion(list(zip(dp, dc, strict=True)))
        self.ds_fuse_p2r_fuse_layers = _fusion([(2 * c, c) for c in dc])
        self.cnn_up_stages = resnet.up_stages()
        self.rndla_up_stages = nn.ModuleList(
            Pointwise(a, b, "randla") for a, b in ((768, 256), (384, 128), (192, 64), (128, 64))
        )
        self.up_fuse_r2p_pre_layers = _fusion(list(zip(uc, up, strict=True)))
        self.up_fuse_r2p_fuse_layers = _fusion([(2 * p, p) for p in up])
        self.up_fuse_p2r_pre_layers = _fusion(list(zip(up, uc, strict=True)))
        self.up_fuse_p2r_fuse_layers = _fusion([(2 * c, c) for c in uc])
        self.rgbd_seg_layer = _head(classes)
        self.ctr_ofst_layer = _head(3)
        self.kp_ofst_layer = _head(3 * keypoints)

    def forward(self, inputs: Inputs) -> Outputs:
        """Run the network; height and width must be multiples of 8, and N / 64 >= k."""
        colour = self.cnn_pre_stages(inputs.rgb)
        point = self.rndla_pre_stages(inputs.features).unsqueeze(3)
        skips = []
        for level in range(4):
            colour, point, full = self._down(level, colour, point, inputs)
            if level == 0:
                skips.append(full)
            skips.append(point)
        point = skips.pop()
        for stage in range(3):
            colour = self.cnn_up_stages[stage](colour)
            point = self._interpolate(stage, point, skips.pop(), inputs.nearest_kept[3 - stage])
            colour, point = self._fuse("up", stage, colour, point, inputs)
        colour = self.cnn_up_stages[3](colour)
        point = self._interpolate(3, point, skips.pop(), inputs.nearest_kept[0])
        chosen = gather(colour.flatten(2), inputs.choose.unsqueeze(2))
        features = torch.cat([chosen, point], dim=1).squeeze(3)
        batch, _, points = features.shape
        # In the original's order: the sum of the three gradients is then bitwise equal.
        segmentation = self.rgbd_seg_layer(features)
        keypoint = self.kp_ofst_layer(features).view(batch, self.keypoints, 3, points)
        centre = self.ctr_ofst_layer(features).view(batch, 1, 3, points)
        return Outputs(segmentation, keypoint.transpose(2, 3), centre.transpose(2, 3))

    def _down(
        self, level: int, colour: Tensor, point: Tensor, inputs: Inputs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One encoder stage: fused colour, fused and pooled points, points before both."""
        indices = inputs.neighbours[level]
        points = inputs.features[:, :3, : indices.shape[1]].transpose(1, 2)
        colour = self.cnn_ds_stages[level](colour)
        full = self.rndla_ds_stages[level](points, point, indices)
        kept = inputs.pixels_down[level].shape[1]
        pooled = gather_max(full.squeeze(3), indices[:, :kept])
        colour, pooled = self._fuse("down", level, colour, pooled, inputs)
        return colour, pooled, full

    def _interpolate(self, stage: int, point: Tensor, skip: Tensor, nearest: Tensor) -> Tensor:
        interpolated = gather(point.squeeze(3), nearest)
        return cast(Tensor, self.rndla_up_stages[stage](torch.cat([skip, interpolated], dim=1)))

    def _fuse(
        self, way: Literal["down", "up"], stage: int, colour: Tensor, point: Tensor, inputs: Inputs
    ) -> tuple[Tensor, Tensor]:
        """Exchange features; both directions use the features before the exchange."""
        prefix = {"down": "ds", "up": "up"}[way]
        point_of_pixel, pixels_of_point = (
            getattr(inputs, f"{kind}_{way}")[stage] for kind in ("points", "pixels")
        )

        def layer(name: str) -> nn.Module:
            return cast(nn.ModuleList, getattr(self, f"{prefix}_fuse_{name}_layers"))[stage]

        to_colour = gather(layer("p2r_pre")(point).squeeze(3), point_of_pixel)
        to_colour = to_colour.view(colour.shape[0], -1, *colour.shape[2:])
        to_point = layer("r2p_pre")(gather_max(colour.flatten(2), pixels_of_point))
        return (
            layer("p2r_fuse")(torch.cat([colour, to_colour], dim=1)),
            layer("r2p_fuse")(torch.cat([point, to_point], dim=1)),
        )


def set_point_momentum(net: nn.Module, momentum: float) -> None:
    """Set the batch-norm momentum of the point branch (RandLA)."""
    for name, module in net.named_modules():
        if name.startswith("rndla_") and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = momentum
