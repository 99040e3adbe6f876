"""FFB6D's layers in evaluation mode, rearranged; `compiled` says how."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.pose.model.ffb6d import FFB6D
from ffreid.pose.model.layers import Pointwise
from ffreid.pose.model.randla import AttentivePooling, ResidualBlock
from ffreid.pose.model.resnet import BasicBlock, PyramidPooling

WINOGRAD_CHANNELS = 256
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


def fold_shared(layer: Pointwise) -> Weights:
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
        image = image.to(self.weight.dtype)
        return F.conv2d(image, self.weight, self.bias, self.stride, self.padding)


class Winograd:
    """A 3 x 3 convolution of stride 1 with a quarter of the products (Lavin, CVPR 2016).

    F(4 x 4, 3 x 3): 6 x 6 pixels overlapping by two give 4 x 4. Rounding errors are some 1e-5.
    """

    KERNEL = (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    )

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        weight, bias = weights
        transform = weight.new_tensor(self.KERNEL)
        tiles = torch.einsum("ia,ocab,jb->ijoc", transform, weight, transform)
        self.products = [[Linear(tile, None, dtype) for tile in row] for row in tiles]
        self.bias = bias.to(dtype)

    def __call__(self, image: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h, w)."""
        batch, _, height, width = image.shape
        tall, wide = -(-height // 4), -(-width // 4)
        margins = (0, 0, 1, 4 * wide - width + 1, 1, 4 * tall - height + 1)
        padded = F.pad(image.permute(0, 2, 3, 1), margins)
        columns = []
        rows = self._spread([padded[:, i : i + 4 * tall - 3 : 4] for i in range(6)])
        for row, products in zip(rows, self.products, strict=True):
            tiles = self._spread([row[:, :, i : i + 4 * wide - 3 : 4] for i in range(6)])
            pairs = zip(tiles, products, strict=True)
            columns.append(self._collect([product(tile.flatten(0, 2)) for tile, product in pairs]))
        result = image.new_empty(batch, tall, 4, wide, 4, len(self.bias))
        for x, column in enumerate(zip(*columns, strict=True)):
            for y, part in enumerate(self._collect(column)):
                torch.add(part.view(batch, tall, wide, -1), self.bias, out=result[:, :, y, :, x])
        result = result.view(batch, 4 * tall, 4 * wide, -1)[:, :height, :width]
        return result.permute(0, 3, 1, 2)

    def _spread(self, values: Sequence[Tensor]) -> list[Tensor]:
        v0, v1, v2, v3, v4, v5 = values
        even, odd = torch.add(v4, v2, alpha=-4), torch.add(v3, v1, alpha=-4)
        near, far = v4 - v2, (v3 - v1).mul_(2)
        first, last = torch.add(v4, v2, alpha=-5), torch.add(v5, v3, alpha=-5)
        first, last = first.add_(v0, alpha=4), last.add_(v1, alpha=4)
        return [first, even + odd, even - odd, near + far, near - far, last]

    def _collect(self, values: Sequence[Tensor]) -> list[Tensor]:
        v0, v1, v2, v3, v4, v5 = values
        even, odd, near, far = v1 + v2, v1 - v2, v3 + v4, v3 - v4
        return [
            (v0 + even).add_(near),
            torch.add(odd, far, alpha=2),
            torch.add(even, near, alpha=4),
            torch.add(odd, far, alpha=8).add_(v5),
        ]


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


def as_rows(image: Tensor) -> Tensor:
    """(B, C, h, w) in channels_last as (B * h * w, C)."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def flat(indices: Tensor, rows: int) -> Tensor:
    """(B, M, k) indices into the `rows` rows of each frame, as (B * M * k,) into all."""
    first = torch.arange(len(indices), device=indices.device) * rows
    return (indices + first[:, None, None]).reshape(-1)


def pool_rows(rows: Tensor, indices: Tensor, k: int) -> Tensor:
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


Bands = list[tuple[Tensor, slice]]
"""Blocks of a band matrix's rows without most of their zeros, and the columns that are left."""


def _bands(matrix: Tensor) -> Bands:
    bands = []
    for block in matrix.chunk(8):
        used = block.any(0).nonzero().flatten().tolist() or [0]
        band = slice(used[0], used[-1] + 1)
        bands.append((block[:, band], band))
    return bands


@lru_cache(maxsize=16)
def _doubling_bands(height: int, width: int) -> tuple[list[Bands], Bands]:
    """Bands of the three (2h, h) matrices, and of the (2w, w * 3) matrix of all taps."""
    wide = _doubling(width).permute(1, 2, 0).flatten(1)
    return [_bands(tall) for tall in _doubling(height)], _bands(wide)


def _multiply(bands: Bands, columns: Tensor) -> Tensor:
    """Multiply a band matrix (M, N) by (b, N, c)."""
    return torch.cat([block.to(columns) @ columns[:, band] for block, band in bands], 1)


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
        batch, _, *size = map(int, image.shape)  # numbers, also while the network is traced
        rows = as_rows(image).to(self.direct.weight.dtype)
        result = self.direct(rows).view(batch, size[0] * size[1], -1)
        for cells, linear in zip(self.cells, self.maps, strict=True):
            pool, enlarge = (matrix.to(rows) for matrix in _cells(*size, cells))
            means = pool @ rows.view(batch, -1, rows.shape[1])
            result += enlarge @ linear(means.flatten(0, 1)).view(batch, cells**2, -1)
        return result.relu_().view(batch, *size, -1).permute(0, 3, 1, 2)


def _three_by_three(
    weights: Weights, dtype: torch.dtype, stride: int = 1
) -> Convolution | Winograd:
    """The faster of both: with few channels Winograd's transforms cost more than they save."""
    if stride == 1 and dtype == torch.float32 and weights[0].shape[1] >= WINOGRAD_CHANNELS:
        return Winograd(weights, dtype)
    return Convolution(weights, dtype, stride)


class Block:
    """`BasicBlock`."""

    def __init__(self, block: BasicBlock, dtype: torch.dtype) -> None:
        stride = block.conv1.stride[0]
        self.first = _three_by_three(fold(block.conv1, block.bn1), dtype, stride)
        self.second = _three_by_three(fold(block.conv2, block.bn2), dtype)
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
        batch, _, height, width = map(int, image.shape)
        rows, result = as_rows(image).to(self.bias.dtype), None
        talls, wide = _doubling_bands(height, width)
        for tall, taps in zip(talls, self.taps, strict=True):
            parts = _multiply(wide, taps(rows).view(batch * height, width * 3, -1))
            part = _multiply(tall, parts.view(batch, height, -1))
            result = part if result is None else result.add_(part)
        assert result is not None
        result = result.view(-1, len(self.bias)).add_(self.bias)
        result = F.prelu(result, self.slope)
        return result.view(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class Attention:
    """`AttentivePooling` of neighbours' features and positions."""

    def __init__(self, layer: AttentivePooling, dtype: torch.dtype) -> None:
        self.score = Linear(fold(layer.fc)[0].flatten(1), None, dtype)
        self.out = Linear(*fold_shared(layer.mlp), dtype)

    def __call__(self, features: Tensor, positions: Tensor, indices: Tensor, k: int) -> Tensor:
        """Map (R, h) features and (R * k, h) positions of the neighbours to (R, C)."""
        pooled = []
        for first in range(0, len(indices), CHUNK * k):
            part = slice(first, first + CHUNK * k)
            near = torch.cat([features.index_select(0, indices[part]), positions[part]], 1)
            weights = torch.softmax(self.score(near).view(-1, k, near.shape[1]), 1)
            pooled.append(weights.mul_(near.view(weights.shape)).sum(1))
        return F.leaky_relu_(self.out(torch.cat(pooled)), 0.2)


class Neighbourhood:
    """`ResidualBlock` of the point branch."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        # Of distance, p - q, p, q of point p and neighbour q the last is p less the second.
        weight, bias = fold_shared(block.lfa.mlp1)
        relative = torch.cat([weight[:, :1], weight[:, 1:4] - weight[:, 7:]], 1)
        self.relative = Linear(relative, None, dtype)
        self.centre = Linear(weight[:, 4:7] + weight[:, 7:], bias, dtype)
        self.first, self.second = (
            Linear(*fold_shared(m), dtype) for m in (block.mlp1, block.lfa.mlp2)
        )
        self.pool_1, self.pool_2 = (
            Attention(layer, dtype) for layer in (block.lfa.att_pooling_1, block.lfa.att_pooling_2)
        )
        (inner, bias_inner), (outer, bias_outer) = map(fold_shared, (block.mlp2, block.shortcut))
        self.out = Linear(torch.cat([inner, outer], 1), bias_inner + bias_outer, dtype)

    def __call__(self, points: Tensor, features: Tensor, indices: Tensor, k: int) -> Tensor:
        """Map (R, 3) points and (R, C_in) features to (R, 2D)."""
        offset = points[:, None] - points.index_select(0, indices).view(-1, k, 3)
        distance = offset.square().sum(2, keepdim=True).sqrt_()
        positions = self.relative(torch.cat([distance, offset], 2).flatten(0, 1))
        positions = positions.view(len(points), k, -1).add_(self.centre(points)[:, None])
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
            return fold_shared(getattr(net, f"{way}_fuse_{name}_layers")[stage])

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
        colour = as_rows(image)
        seen = pool_rows(colour, flat(pixels, height * width), pixels.shape[2])
        fused = self.own(colour)
        table = self.other(self.from_point(point).relu_()).to(fused)
        fused += table.index_select(0, flat(point_of_pixel, len(point) // batch))
        seen = self.from_colour(seen).relu_()
        point = self.to_point(torch.cat([point, seen], 1)).relu_()
        return fused.relu_().view(batch, height, width, channels).permute(0, 3, 1, 2), point
