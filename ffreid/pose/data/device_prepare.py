"""Points, normals and neighbours of a batch as tensor code on its device (DATA.PREPARE device).

The results are those of `make_sample` in the workers: integers and float64 where these are, float32
rounded as there; neighbours by all distances in float64. Among equal distances the order is
arbitrary.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from ffreid.pose.data.batch import Inputs, Stacked
from ffreid.pose.data.pyramid import LEVELS, NEIGHBOURS, STRIDES_DOWN, STRIDES_UP

PAIRS = 2**25
"""Distances in memory at a time, of 8 bytes, in a few copies."""
RADIUS, FARTHEST, STEP = 5, 2000, 20
"""Of normals, see `normals_from_depth`."""


@dataclass(frozen=True)
class RawInputs(Stacked):
    """What workers send instead of `Inputs`; `to` makes these of it.

    Attributes:
        rgb: (B, 3, H, W) uint8, padded.
        millimetres: (B, h, w) int32 depth, 0 where nothing was measured, not padded.
        metres: (B, h, w) float32 depth, not padded.
        choose: (B, N) flat pixel of every point in the padded image.
        intrinsics: (B, 3, 3) float64.
    """

    rgb: Tensor
    millimetres: Tensor
    metres: Tensor
    choose: Tensor
    intrinsics: Tensor

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Inputs:
        """Compute the inputs of the network on `device`."""
        raw = {n: value.to(device, non_blocking=True) for n, value in vars(self).items()}
        rgb, choose, camera = raw["rgb"], raw["choose"].long(), raw["intrinsics"]
        height, width = rgb.shape[2:]
        edges = (0, 0, 0, width - raw["metres"].shape[2], 0, height - raw["metres"].shape[1])
        points = pad(point_maps(raw["metres"], camera), edges)
        normals = pad(normal_maps(raw["millimetres"], camera), edges)
        colours = rgb.permute(0, 2, 3, 1)
        rows = [
            image.flatten(1, 2).gather(1, choose[..., None].expand(-1, -1, 3)).to(torch.float32)
            for image in (points, colours, normals)
        ]
        each = [pyramid(cloud, grid) for cloud, grid in zip(rows[0], points, strict=True)]
        levels = {
            name: tuple(torch.stack(level) for level in zip(*(p[name] for p in each), strict=True))
            for name in each[0]
        }
        features = torch.cat(rows, dim=2).transpose(1, 2).contiguous()
        inputs = Inputs(rgb=rgb, features=features, choose=choose, **levels)
        return inputs.to(device, dtype)


def point_maps(metres: Tensor, intrinsics: Tensor) -> Tensor:
    """(B, H, W, 3) float32 points of depth maps (B, H, W), as `back_project`."""
    height, width = metres.shape[1:]
    matrix = intrinsics[:, :, :, None, None]
    z = torch.where(metres.isfinite() & (metres > 1e-8), metres, 0).double()
    columns = torch.arange(width, device=z.device).double()
    lines = torch.arange(height, device=z.device).double()[:, None]
    x = (columns - matrix[:, 0, 2]) * z / matrix[:, 0, 0]
    y = (lines - matrix[:, 1, 2]) * z / matrix[:, 1, 1]
    return torch.stack([x, y, z], dim=3).float()


def normal_maps(millimetres: Tensor, intrinsics: Tensor) -> Tensor:
    """(B, H, W, 3) float32 normals of depth maps (B, H, W) int32, as `normals_from_depth`."""
    batch, height, width = millimetres.shape
    rows, columns = height - 2 * RADIUS - 1, width - 2 * RADIUS - 1
    if rows <= 0 or columns <= 0:
        return torch.zeros(batch, height, width, 3, device=millimetres.device)
    depth = millimetres.clamp(max=FARTHEST + STEP)
    centre = depth[:, RADIUS : RADIUS + rows, RADIUS : RADIUS + columns]
    xx, xy, yy, xd, yd = (torch.zeros_like(centre) for _ in range(5))
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            top, left = RADIUS * (1 + y), RADIUS * (1 + x)
            delta = depth[:, top : top + rows, left : left + columns] - centre
            used = (delta.abs() < STEP).int()
            delta = delta * used
            xx, xy, yy = xx + x * x * used, xy + x * y * used, yy + y * y * used
            xd, yd = xd + x * delta, yd + y * delta
    det = (xx * yy - xy * xy) * RADIUS**4
    slopes = (yy * xd - xy * yd) * RADIUS**3, (xx * yd - xy * xd) * RADIUS**3
    focal = intrinsics.float()[:, :, :, None, None]
    across = focal[:, 0, 0] * slopes[0].float()
    along = focal[:, 1, 1] * slopes[1].float()
    ahead = (-det * centre).float()
    squared = across * across + along * along + ahead * ahead
    length = squared.double().sqrt().float()  # torch's float32 root is not the nearest number
    good = (centre < FARTHEST) & (length > 0)
    inverse = torch.where(good, 1 / torch.where(good, length, 1), 0)
    planes = torch.stack([across, along, ahead], dim=1) * inverse[:, None]
    edges = (RADIUS, width - columns - RADIUS, RADIUS, height - rows - RADIUS)
    bordered = pad(pad(planes, edges), (1, 1, 1, 1), mode="replicate")
    around = bordered.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return around.median(dim=4).values.permute(0, 2, 3, 1)


def pyramid(cloud: Tensor, point_map: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """All neighbours for one frame, the fields of `Inputs` that hold levels; see `build_pyramid`.

    `cloud` is (N, 3), `point_map` (H, W, 3).
    """
    levels = [cloud[: len(cloud) // 4**level] for level in range(LEVELS + 1)]
    grids = {stride: point_map[::stride, ::stride].reshape(-1, 3) for stride in (2, 4, 8)}
    found: dict[tuple[int, int], Tensor] = {}

    def pixels(level: int, stride: int) -> Tensor:
        first = 2 if stride == 8 else 1  # the points of a level are the first of the one before
        if (first, stride) not in found:
            found[first, stride] = nearest(levels[first], grids[stride], NEIGHBOURS)
        return found[first, stride][: len(levels[level])]

    def points(level: int, stride: int) -> Tensor:
        finest = {1: 2, 2: 2, 3: 4, 4: 8}[level]  # a coarse grid is part of a fine one
        key = (-level, finest)
        if key not in found:
            found[key] = nearest(grids[finest], levels[level], 1)
        rows = found[key].view(point_map.shape[0] // finest, point_map.shape[1] // finest)
        step = stride // finest
        return rows[::step, ::step].reshape(-1, 1)

    down = list(zip(range(1, LEVELS + 1), STRIDES_DOWN, strict=True))
    up = list(zip((3, 2, 1), STRIDES_UP, strict=True))
    return {
        "neighbours": tuple(nearest(level, level, NEIGHBOURS) for level in levels[:-1]),
        "nearest_kept": tuple(nearest(levels[i], levels[i + 1], 1) for i in range(LEVELS)),
        "pixels_down": tuple(pixels(level, stride) for level, stride in down),
        "points_down": tuple(points(level, stride) for level, stride in down),
        "pixels_up": tuple(pixels(level, stride) for level, stride in up),
        "points_up": tuple(points(level, stride) for level, stride in up),
    }


def nearest(queries: Tensor, support: Tensor, k: int) -> Tensor:
    """(Q, k) rows of `support` (S, 3) nearest to the queries (Q, 3), 0 where there are fewer."""
    count = min(k, len(support))
    targets = support.double().T.contiguous()
    results = []
    for chunk in torch.split(queries.double(), max(1, PAIRS // max(1, len(support)))):
        squared = torch.zeros(len(chunk), len(support), dtype=torch.float64, device=chunk.device)
        for axis in range(3):
            difference = chunk[:, axis, None] - targets[axis]
            squared += difference.mul_(difference)
        if count == 1:
            results.append(squared.argmin(dim=1, keepdim=True))
        else:
            results.append(squared.topk(count, largest=False).indices)
    return pad(torch.cat(results), (0, k - count))


def raw_inputs(rgb: Any, millimetres: Any, metres: Any, choose: Any, intrinsics: Any) -> Inputs:
    """`RawInputs` of one frame, from arrays; they stand for `Inputs` until `to` is called."""
    values = {
        "rgb": rgb,
        "millimetres": millimetres.astype("int32"),
        "metres": metres,
        "choose": choose,
        "intrinsics": intrinsics.astype("float64"),
    }
    return cast(Inputs, RawInputs(**{n: torch.from_numpy(value) for n, value in values.items()}))
