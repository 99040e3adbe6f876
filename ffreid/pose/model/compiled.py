"""FFB6D for evaluation: the trained network's function in fewer operations.

Built once from a network's weights; the network stays what is trained, and what tests compare with.
What is rearranged, all of it exact but for rounding:

- Pixels and points are rows, (rows, channels), so that nothing is transposed and gathering copies
  whole rows; frames of a batch follow each other. Batch norm is folded into the convolutions.
- A linear map commutes with gathering and with enlarging, so it runs on the fewer rows: attention
  and fusion layers before their points are gathered, the pyramid's bottleneck on pooled cells, the
  nine taps of the first decoder stage at its input's size.
- The last upsampling and its 3 x 3 convolution run at the chosen pixels alone.
"""

from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.pose.data.batch import Inputs
from ffreid.pose.model.ffb6d import FFB6D, Outputs
from ffreid.pose.model.layers import Pointwise
from ffreid.pose.model.randla import AttentivePooling, ResidualBlock
from ffreid.pose.model.resnet import BasicBlock, PyramidPooling

CHUNK = 512
"""Points whose neighbours are pooled at a time: what they take stays in the cache."""
Weights = tuple[Tensor, Tensor]
"""Double weight (C_out, C_in, ...) and bias (C_out,) of a linear map."""


def fold(convolution: Any, norm: Any = None) -> Weights:
    """Return a convolution's weight and bias with those of the batch norm behind it."""
    weight = convolution.weight.detach().double()
    bias = weight.new_zeros(len(weight))
    if convolution.bias is not None:
        bias = convolution.bias.detach().double()
    if norm is not None:
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.detach().double()
    return weight, bias


def _matrix(layer: Pointwise) -> Weights:
    """A shared layer as (C_out, C_in) and (C_out,), without its activation."""
    weight, bias = fold(layer.conv, layer.get_submodule(layer.norm_name)[0] if layer.norm else None)  # type: ignore[index]
    return weight.flatten(1), bias


class Convolution:
    """A convolution of (B, C, h, w) images in channels_last."""

    def __init__(self, weights: Weights, dtype: torch.dtype, stride: int = 1) -> None:
        weight, bias = weights
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias, self.stride = bias.to(dtype), stride
        self.padding = weight.shape[2] // 2

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h / stride, w / stride)."""
        return F.conv2d(image, self.weight, self.bias, self.stride, self.padding)


class Linear:
    """A linear map of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight[:, :, None, None].to(dtype)
        self.weight = self.weight.contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.to(dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        """Map (R, C_in) to (R, C_out)."""
        image = rows.to(self.weight.dtype).view(1, 1, *rows.shape).permute(0, 3, 1, 2)
        # As an image of one row, for which a stride between rows means nothing; but it makes torch
        # take oneDNN: MKL, in F.linear, has half its rate on AMD's processors.
        result = F.conv2d(image, self.weight, self.bias, stride=(2, 1))
        return result.permute(0, 2, 3, 1).reshape(len(rows), -1)


def _rows(image: Tensor) -> Tensor:
    """(B, C, h, w) in channels_last as (B * h * w, C)."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def _flat(indices: Tensor, rows: int) -> Tensor:
    """(B, M, k) indices into the `rows` rows of each frame, as (B * M * k,) into all."""
    first = torch.arange(len(indices), device=indices.device) * rows
    return (indices + first[:, None, None]).reshape(-1)


def _pool(rows: Tensor, indices: Tensor, k: int) -> Tensor:
    """Maximum over the rows of each k indices."""
    return rows.index_select(0, indices).view(-1, k, rows.shape[1]).amax(1)


def _enlarging(length: int, result: int, *, align_corners: bool) -> Tensor:
    """Return the double matrix (result, length) of linear interpolation."""
    unit = torch.eye(length, dtype=torch.double)[None]
    return F.interpolate(unit, size=result, mode="linear", align_corners=align_corners)[0].T


@lru_cache(maxsize=16)
def _cells(height: int, width: int, cells: int) -> tuple[Tensor, Tensor]:
    """(cells², h * w) shares of pixels in the cells' means; (h * w, cells²) to enlarge these."""
    size = (height, width)
    units = [torch.eye(length, dtype=torch.double)[None] for length in size]
    pool = [F.adaptive_avg_pool1d(unit, cells)[0].T for unit in units]
    enlarge = [_enlarging(cells, length, align_corners=False) for length in size]
    return torch.kron(*pool), torch.kron(*enlarge)


@lru_cache(maxsize=16)
def _doubling(length: int) -> Tensor:
    """(3, 2n, n): double n values, corners aligned, and shift them by -1, 0, 1; 0 outside."""
    padded = F.pad(_enlarging(length, 2 * length, align_corners=True), (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + 2 * length] for tap in range(3)])


def _banded(matrix: Tensor, columns: Tensor) -> Tensor:
    """Multiply a band matrix (M, N) by (b, N, c), without most of its zeros."""
    parts = []
    for block in matrix.chunk(8):
        used = block.any(0).nonzero().flatten().tolist() or [0]
        band = slice(used[0], used[-1] + 1)
        parts.append(block[:, band].expand(len(columns), -1, -1) @ columns[:, band])
    return torch.cat(parts, 1)


class Pyramid:
    """`PyramidPooling`, whose bottleneck sees pooled cells before they are enlarged."""

    def __init__(self, pyramid: PyramidPooling, dtype: torch.dtype) -> None:
        weight, bias = fold(pyramid.bottleneck)
        *pooled, direct = weight.flatten(1).chunk(len(pyramid.stages) + 1, 1)
        stages = [cast(nn.Sequential, stage) for stage in pyramid.stages]
        self.cells = [cast(int, stage[0].cells) for stage in stages]
        self.maps = [
            Linear(part @ fold(stage[1])[0].flatten(1), None, dtype)
            for part, stage in zip(pooled, stages, strict=True)
        ]
        self.direct = Linear(direct, bias, dtype)

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, 512, h, w) to (B, 1024, h, w)."""
        batch, _, *size = image.shape
        rows = _rows(image)
        result = self.direct(rows).view(batch, size[0] * size[1], -1)
        for cells, linear in zip(self.cells, self.maps, strict=True):
            pool, enlarge = (matrix.to(rows) for matrix in _cells(*size, cells))
            means = pool @ rows.view(batch, -1, rows.shape[1])
            result += enlarge @ linear(means.flatten(0, 1)).view(batch, cells**2, -1)
        return result.relu_().view(batch, *size, -1).permute(0, 3, 1, 2)


class Block:
    """`BasicBlock`."""

    def __init__(self, block: BasicBlock, dtype: torch.dtype) -> None:
        stride = block.conv1.stride[0]
        self.first = Convolution(fold(block.conv1, block.bn1), dtype, stride)
        self.second = Convolution(fold(block.conv2, block.bn2), dtype)
        self.shortcut = None
        if isinstance(block.downsample, nn.Sequential):
            self.shortcut = Convolution(fold(*block.downsample), dtype, stride)

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C, h / stride, w / stride)."""
        shortcut = image if self.shortcut is None else self.shortcut(image)
        return self.second(self.first(image).relu_()).add_(shortcut).relu_()


class Upsample:
    """Doubling and a 3 x 3 convolution, whose taps are multiplied before they are enlarged."""

    def __init__(self, weights: Weights, slope: Tensor, dtype: torch.dtype) -> None:
        weight, bias = weights
        self.taps = [
            Linear(part.permute(2, 0, 1).flatten(0, 1), None, dtype) for part in weight.unbind(2)
        ]
        self.bias, self.slope = bias.to(dtype), slope.detach().to(dtype)

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, 2h, 2w)."""
        batch, _, height, width = image.shape
        rows, result = _rows(image), None
        wide = _doubling(width).permute(1, 2, 0).flatten(1).to(rows)  # (2w, w * 3)
        for tall, taps in zip(_doubling(height).to(rows), self.taps, strict=True):
            parts = _banded(wide, taps(rows).view(batch * height, width * 3, -1))
            part = _banded(tall, parts.view(batch, height, -1))
            result = part if result is None else result.add_(part)
        assert result is not None
        result = result.view(-1, len(self.bias)).add_(self.bias)
        result = F.prelu(result, self.slope)
        return result.view(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class Attention:
    """`AttentivePooling` of neighbours' features and positions, scored before they are gathered."""

    def __init__(self, layer: AttentivePooling, dtype: torch.dtype) -> None:
        feature, position = fold(layer.fc)[0].flatten(1).chunk(2, 1)
        self.feature, self.position = (Linear(part, None, dtype) for part in (feature, position))
        self.out = Linear(*_matrix(layer.mlp), dtype)

    def __call__(self, features: Tensor, positions: Tensor, indices: Tensor, k: int) -> Tensor:
        """Map (R, h) features and (R * k, h) positions of the neighbours to (R, C)."""
        table = torch.cat([self.feature(features), features], 1)
        parts = [
            self._pool(
                table.index_select(0, indices[i : i + CHUNK * k]), positions[i : i + CHUNK * k], k
            )
            for i in range(0, len(indices), CHUNK * k)
        ]
        return F.leaky_relu_(self.out(torch.cat(parts)), 0.2)

    def _pool(self, near: Tensor, positions: Tensor, k: int) -> Tensor:
        width = positions.shape[1]
        scores = self.position(positions).add_(near[:, : 2 * width])
        weights = torch.softmax(scores.view(-1, k, 2 * width), 1)
        values = torch.cat([near[:, 2 * width :], positions], 1).view(-1, k, 2 * width)
        return weights.mul_(values).sum(1)


class Neighbourhood:
    """`ResidualBlock` of the point branch."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        # Its columns: distance, p - q, p, q of point p and neighbour q.
        weight, bias = _matrix(block.lfa.mlp1)
        self.distance = weight[:, 0].to(dtype)
        self.centre = Linear(weight[:, 1:4] + weight[:, 4:7], bias, dtype)
        self.neighbour = Linear(weight[:, 7:] - weight[:, 1:4], None, dtype)
        self.first, self.second = (Linear(*_matrix(m), dtype) for m in (block.mlp1, block.lfa.mlp2))
        self.pool_1, self.pool_2 = (
            Attention(layer, dtype) for layer in (block.lfa.att_pooling_1, block.lfa.att_pooling_2)
        )
        (inner, bias_inner), (outer, bias_outer) = map(_matrix, (block.mlp2, block.shortcut))
        self.out = Linear(torch.cat([inner, outer], 1), bias_inner + bias_outer, dtype)

    def __call__(self, points: Tensor, features: Tensor, indices: Tensor, k: int) -> Tensor:
        """Map (R, 3) points and (R, C_in) features to (R, 2D)."""
        near = points.index_select(0, indices).view(-1, k, 3)
        distance = (points[:, None] - near).square_().sum(2, keepdim=True).sqrt_()
        positions = self.neighbour(points).index_select(0, indices).view(len(points), k, -1)
        positions += self.centre(points)[:, None]
        positions.addcmul_(distance.to(positions), self.distance)
        positions = F.leaky_relu_(positions.flatten(0, 1), 0.2)
        pooled = self.pool_1(F.leaky_relu_(self.first(features), 0.2), positions, indices, k)
        positions = F.leaky_relu_(self.second(positions), 0.2)
        pooled = self.pool_2(pooled, positions, indices, k)
        return F.leaky_relu_(self.out(torch.cat([pooled, features], 1)), 0.2)


class Exchange:
    """Both fusion layers of a stage."""

    def __init__(
        self, net: FFB6D, way: str, stage: int, colour: torch.dtype, point: torch.dtype
    ) -> None:
        def layer(name: str) -> Weights:
            return _matrix(getattr(net, f"{way}_fuse_{name}_layers")[stage])

        weight, bias = layer("p2r_fuse")
        own, other = weight.chunk(2, 1)
        self.own, self.other = Linear(own, bias, colour), Linear(other, None, point)
        self.from_point = Linear(*layer("p2r_pre"), point)
        self.from_colour = Linear(*layer("r2p_pre"), point)
        self.to_point = Linear(*layer("r2p_fuse"), point)

    def __call__(
        self, image: Tensor, point: Tensor, point_of_pixel: Tensor, pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the fused image and points; indices are (B, h * w, 1) and (B, M, k)."""
        batch, channels, height, width = image.shape
        colour = _rows(image)
        seen = _pool(colour, _flat(pixels, height * width), pixels.shape[2])
        table = self.other(self.from_point(point).relu_()).to(colour)
        fused = self.own(colour)
        fused += table.index_select(0, _flat(point_of_pixel, len(point) // batch))
        seen = self.from_colour(seen).relu_()
        point = self.to_point(torch.cat([point, seen], 1)).relu_()
        return fused.relu_().view(batch, height, width, channels).permute(0, 3, 1, 2), point


def has_hooks(net: nn.Module) -> bool:
    """Whether a layer's forward hooks would miss a network that is compiled."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class CompiledFFB6D:
    """FFB6D in evaluation mode, on the device of `net`; later changes to `net` have no effect.

    `colour` is the dtype of the colour branch, `point` that of points and heads. Outputs are
    float32 at least.
    """

    def __init__(
        self,
        net: FFB6D,
        *,
        colour: torch.dtype = torch.float32,
        point: torch.dtype = torch.float32,
    ) -> None:
        self.colour, self.point, self.keypoints = colour, point, net.keypoints
        self.stem = Convolution(fold(*list(net.cnn_pre_stages)[:2]), colour, 2)
        self.first = Linear(*_matrix(net.rndla_pre_stages), point)
        layers = [m for m in net.cnn_ds_stages.modules() if isinstance(m, BasicBlock)]
        self.layers = [
            [Block(m, colour) for m in layers[a:b]] for a, b in ((0, 3), (3, 7), (7, 16))
        ]
        self.pyramid = Pyramid(cast(Any, net.cnn_ds_stages)[3][0], colour)
        self.blocks = [Neighbourhood(cast(Any, m), point) for m in net.rndla_ds_stages]
        self.exchanges = {
            way: [Exchange(net, way, i, colour, point) for i in range(count)]
            for way, count in (("ds", 4), ("up", 3))
        }
        up = cast(Any, net.cnn_up_stages)
        stages = [
            (fold(stage.conv[1], stage.conv[2]), stage.conv[3].weight.detach())
            for stage in (up[0][0], up[1][0], up[3][0])
        ]
        self.upsample = [Upsample(*stage, colour) for stage in stages[:2]]
        weight, bias = stages[2][0]
        self.chosen = (
            Linear(weight.permute(0, 2, 3, 1).flatten(1), bias, point),
            stages[2][1].to(point),
        )
        weight, bias = fold(up[2][0][0])
        self.final, self.final_chosen = (
            Linear(weight.flatten(1), bias, d) for d in (colour, point)
        )
        self.decoder = [Linear(*_matrix(cast(Any, m)), point) for m in net.rndla_up_stages]
        heads = [cast(Any, h) for h in (net.rgbd_seg_layer, net.kp_ofst_layer, net.ctr_ofst_layer)]
        weights, biases = zip(*(_matrix(head[0]) for head in heads), strict=True)
        self.heads_in = Linear(torch.cat(weights), torch.cat(biases), point)
        self.heads = [[Linear(*_matrix(layer), point) for layer in head[1:]] for head in heads]

    @torch.inference_mode()
    def __call__(self, inputs: Inputs) -> Outputs:
        """Run the network, as `FFB6D.forward` does."""
        batch, _, height, width = inputs.rgb.shape
        image = inputs.rgb.to(self.colour).contiguous(memory_format=torch.channels_last)
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
            full = block(positions, point, _flat(neighbours, count), k)
            kept = inputs.pixels_down[level].shape[1]
            pooled = _pool(full, _flat(neighbours[:, :kept], count), k)
            image, point = self.exchanges["ds"][level](
                image, pooled, inputs.points_down[level], inputs.pixels_down[level]
            )
            skips += [full, point] if level == 0 else [point]
        point = skips.pop()
        for stage in range(3):
            if stage < 2:
                image = self.upsample[stage](image)
            else:
                rows = F.log_softmax(self.final(_rows(image)), 1)
                image = rows.view(batch, height // 2, width // 2, -1).permute(0, 3, 1, 2)
            point = self._decode(stage, point, skips.pop(), inputs.nearest_kept[3 - stage])
            image, point = self.exchanges["up"][stage](
                image, point, inputs.points_up[stage], inputs.pixels_up[stage]
            )
        point = self._decode(3, point, skips.pop(), inputs.nearest_kept[0])
        colour = self._upsample_chosen(image, inputs.choose)
        return self._heads(torch.cat([colour, point], 1), batch)

    def _decode(self, stage: int, point: Tensor, skip: Tensor, nearest: Tensor) -> Tensor:
        near = point.index_select(0, _flat(nearest, len(point) // len(nearest)))
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
            place = near.to(self.point) * ((length - 1) / (2 * length - 1))
            first = place[:, 0].floor().clamp_(0, length - 3)
            distance = (
                place[:, :, None] - first[:, None, None] - torch.arange(3, device=choose.device)
            )
            inside = (near >= 0) & (near < 2 * length)
            weights.append((1 - distance.abs()).clamp_(min=0) * inside[:, :, None])
            firsts.append(first.long()[:, None] + torch.arange(3, device=choose.device))
        pixels = (firsts[0][:, :, None] * size[1] + firsts[1][:, None]).view(batch, -1, 9)
        near = _rows(image).index_select(0, _flat(pixels, size[0] * size[1])).to(self.point)
        mix = torch.einsum("nyi,nxj->nyxij", *weights).view(-1, 9, 9)
        taps = (mix @ near.view(-1, 9, channels)).view(-1, 9 * channels)
        linear, slope = self.chosen
        return F.log_softmax(self.final_chosen(F.prelu(linear(taps), slope)), 1)

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
