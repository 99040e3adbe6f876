"""FFB6D for evaluation: the trained network's function in fewer operations.

Built once from a network's weights; the network stays what is trained, and what tests compare with.
What is rearranged, all of it exact but for rounding:

- Pixels and points are rows, (rows, channels), so that nothing is transposed and gathering copies
  whole rows; frames of a batch follow each other. Batch norm is folded into the convolutions.
- A linear map commutes with gathering and with enlarging, so it runs on the fewer rows: fusion
  layers before their points are gathered, the pyramid's bottleneck on pooled cells, the nine
  taps of the decoder's 3 x 3 convolutions at their input's size.
- The deep 3 x 3 convolutions in float32 are Winograd's.
- The last upsampling and its 3 x 3 convolution run at the chosen pixels alone.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.pose.data.batch import Inputs
from ffreid.pose.model.ffb6d import FFB6D, Outputs
from ffreid.pose.model.rearranged import (
    Block,
    Convolution,
    Exchange,
    Linear,
    Neighbourhood,
    Pyramid,
    Upsample,
    as_rows,
    flat,
    fold,
    fold_shared,
    pool_rows,
)
from ffreid.pose.model.resnet import BasicBlock


class CompiledFFB6D:
    """FFB6D in evaluation mode, on the device of `net`; later changes to `net` have no effect.

    `deep` is the dtype of most of the operations: ResNet's layers 3 and 4, the pyramid,
    exchanges with both and the upsampling. All else has `dtype`: rounding what is seen first moves
    poses most.
    """

    def __init__(
        self,
        net: FFB6D,
        *,
        dtype: torch.dtype = torch.float32,
        deep: torch.dtype | None = None,
    ) -> None:
        deep = deep or dtype
        self.dtype, self.keypoints = dtype, net.keypoints
        self.stem = Convolution(fold(*list(net.cnn_pre_stages)[:2]), dtype, 2)
        self.first = Linear(*fold_shared(net.rndla_pre_stages), dtype)
        layers = [m for m in net.cnn_ds_stages.modules() if isinstance(m, BasicBlock)]
        self.layers = [
            [Block(m, kind) for m in layers[a:b]]
            for a, b, kind in ((0, 3, dtype), (3, 7, dtype), (7, 16, deep))
        ]
        self.pyramid = Pyramid(cast(Any, net.cnn_ds_stages)[3][0], deep)
        self.blocks = [Neighbourhood(cast(Any, m), dtype) for m in net.rndla_ds_stages]
        self.exchanges = {
            way: [Exchange(net, way, i, kind, dtype) for i, kind in enumerate(kinds)]
            for way, kinds in (("ds", (dtype, dtype, deep, deep)), ("up", (dtype,) * 3))
        }
        up = cast(Any, net.cnn_up_stages)
        stages = [
            (fold(stage.conv[1], stage.conv[2]), stage.conv[3].weight.detach())
            for stage in (up[0][0], up[1][0], up[3][0])
        ]
        self.upsample = [Upsample(*stage, deep) for stage in stages[:2]]
        weight, bias = stages[2][0]
        self.chosen = (
            Linear(weight.permute(0, 2, 3, 1).flatten(1), bias, dtype),
            stages[2][1].to(dtype),
        )
        weight, bias = fold(up[2][0][0])
        self.final = Linear(weight.flatten(1), bias, dtype)
        self.decoder = [Linear(*fold_shared(cast(Any, m)), dtype) for m in net.rndla_up_stages]
        heads = [cast(Any, h) for h in (net.rgbd_seg_layer, net.kp_ofst_layer, net.ctr_ofst_layer)]
        weights, biases = zip(*(fold_shared(head[0]) for head in heads), strict=True)
        self.heads_in = Linear(torch.cat(weights), torch.cat(biases), dtype)
        self.heads = [[Linear(*fold_shared(layer), dtype) for layer in head[1:]] for head in heads]

    @torch.inference_mode()
    def __call__(self, inputs: Inputs) -> Outputs:
        """Run the network, as `FFB6D.forward` does."""
        batch, _, height, width = inputs.rgb.shape
        image = inputs.rgb.to(self.dtype).contiguous(memory_format=torch.channels_last)
        image = F.max_pool2d(self.stem(image).relu_(), 3, 2, 1)
        features = inputs.features.transpose(1, 2)
        point = F.leaky_relu_(self.first(features.flatten(0, 1)), 0.2)
        skips = []
        for level, block in enumerate(self.blocks):
            if level < 3:
                for layer in self.layers[level]:
                    image = layer(image)
            else:
                image = self.pyramid(image)
            neighbours = inputs.neighbours[level]
            _, count, k = neighbours.shape
            positions = features[:, :count, :3].flatten(0, 1)
            full = block(positions, point, flat(neighbours, count), k)
            kept = inputs.pixels_down[level].shape[1]
            pooled = pool_rows(full, flat(neighbours[:, :kept], count), k)
            image, point = self.exchanges["ds"][level](
                image, pooled, inputs.points_down[level], inputs.pixels_down[level]
            )
            skips += [full, point] if level == 0 else [point]
        point = skips.pop()
        for stage in range(3):
            if stage < 2:
                image = self.upsample[stage](image)
            else:
                rows = F.log_softmax(self.final(as_rows(image)), 1)
                image = rows.view(batch, height // 2, width // 2, -1).permute(0, 3, 1, 2)
            point = self._decode(stage, point, skips.pop(), inputs.nearest_kept[3 - stage])
            image, point = self.exchanges["up"][stage](
                image, point, inputs.points_up[stage], inputs.pixels_up[stage]
            )
        point = self._decode(3, point, skips.pop(), inputs.nearest_kept[0])
        colour = self._upsample_chosen(image, inputs.choose)
        return self._heads(torch.cat([colour, point], 1), batch)

    def _decode(self, stage: int, point: Tensor, skip: Tensor, nearest: Tensor) -> Tensor:
        near = point.index_select(0, flat(nearest, len(point) // len(nearest)))
        return F.leaky_relu_(self.decoder[stage](torch.cat([skip, near], 1)), 0.2)

    def _upsample_chosen(self, image: Tensor, choose: Tensor) -> Tensor:
        """The last stage at the (B, N) chosen pixels: (B, 64, h, w) to (B * N, 64).

        A chosen pixel's 3 x 3 neighbours lie between 3 x 3 pixels of the image to be doubled.
        """
        batch, channels, *size = image.shape
        firsts, weights = [], []
        for length, centre in zip(
            size, (choose // (2 * size[1]), choose % (2 * size[1])), strict=True
        ):
            near = centre.flatten()[:, None] + torch.arange(-1, 2, device=choose.device)
            place = near.to(self.dtype) * ((length - 1) / (2 * length - 1))
            first = place[:, 0].floor().clamp_(0, length - 3)
            distance = (
                place[:, :, None] - first[:, None, None] - torch.arange(3, device=choose.device)
            )
            inside = (near >= 0) & (near < 2 * length)
            weights.append((1 - distance.abs()).clamp_(min=0) * inside[:, :, None])
            firsts.append(first.long()[:, None] + torch.arange(3, device=choose.device))
        pixels = (firsts[0][:, :, None] * size[1] + firsts[1][:, None]).view(batch, -1, 9)
        near = as_rows(image).index_select(0, flat(pixels, size[0] * size[1])).to(self.dtype)
        mix = torch.einsum("nyi,nxj->nyxij", *weights).view(-1, 9, 9)
        taps = (mix @ near.view(-1, 9, channels)).view(-1, 9 * channels)
        linear, slope = self.chosen
        return F.log_softmax(self.final(F.prelu(linear(taps), slope)), 1)

    def _heads(self, features: Tensor, batch: int) -> Outputs:
        hidden = self.heads_in(features).relu_().chunk(3, 1)
        outputs = []
        for rows, (second, third, last) in zip(hidden, self.heads, strict=True):
            rows = last(third(second(rows.contiguous()).relu_()).relu_())
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            outputs.append(rows.view(batch, -1, rows.shape[1]))
        segmentation, keypoint, centre = outputs
        return Outputs(
            segmentation.transpose(1, 2),
            keypoint.view(batch, -1, self.keypoints, 3).transpose(1, 2),
            centre.unsqueeze(1),
        )
