"""Weights and inputs from seeds, as in the recordings of the network."""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ffreid.pose.convert import ALIASES
from ffreid.pose.data.batch import Inputs, Targets
from ffreid.pose.model.ffb6d import Outputs

FIRST = ("cnn_pre_stages.0.weight", "rndla_pre_stages.conv.weight")


def weight(key: str, shape: tuple[int, ...], salt: str = "") -> np.ndarray[Any, Any]:
    key = ALIASES.get(key, key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    normal = np.random.default_rng(zlib.crc32((salt + key).encode())).standard_normal(shape)
    if key.endswith(("running_mean", "bias")):
        value = 0.1 * normal
    elif key.endswith("running_var"):
        value = 1.0 + 0.5 * np.abs(normal)
    elif len(shape) == 1:
        value = 0.25 + 0.05 * normal if shape == (1,) else 1.0 + 0.1 * normal
    else:
        gain = 1.0 / 64.0 if key in FIRST else 1.2
        value = normal * (gain / np.sqrt(int(np.prod(shape[1:]))))
    return value.astype(np.float32)


def fill(net: nn.Module, salt: str = "") -> None:
    """Load the recipe's weights into `net`."""
    net.load_state_dict(
        {
            key: torch.from_numpy(weight(key, tuple(value.shape), salt))
            for key, value in net.state_dict().items()
        }
    )


def raw_inputs(
    seed: int, bs: int, h: int, w: int, n: int, n_cls: int, k: int = 16
) -> dict[str, np.ndarray[Any, Any]]:
    """The recorded runs' arrays, under the original's names; the order of draws matters."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray[Any, Any]] = {}
    out["rgb"] = rng.integers(0, 256, (bs, 3, h, w)).astype(np.float32)
    xyz = rng.uniform([-0.4, -0.3, 0.5], [0.4, 0.3, 1.3], (bs, n, 3)).astype(np.float32)
    colour = rng.integers(0, 256, (bs, 3, n)).astype(np.float32)
    normals = rng.standard_normal((bs, 3, n)).astype(np.float32)
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    parts = [xyz.transpose(0, 2, 1), colour, normals]
    out["cld_rgb_nrm"] = np.concatenate(parts, 1).astype(np.float32)
    out["choose"] = rng.integers(0, h * w, (bs, 1, n)).astype(np.int64)
    sizes = [n // 4**level for level in range(5)]
    for i in range(4):
        here, below, stride = sizes[i], sizes[i + 1], (4, 8, 8, 8)[i]
        pixels = (h // stride) * (w // stride)
        out[f"cld_xyz{i}"] = np.ascontiguousarray(xyz[:, :here])
        out[f"cld_nei_idx{i}"] = rng.integers(0, here, (bs, here, k)).astype(np.int64)
        out[f"cld_sub_idx{i}"] = np.ascontiguousarray(out[f"cld_nei_idx{i}"][:, :below])
        out[f"cld_interp_idx{i}"] = rng.integers(0, below, (bs, here, 1)).astype(np.int64)
        out[f"r2p_ds_nei_idx{i}"] = rng.integers(0, pixels, (bs, below, k)).astype(np.int64)
        out[f"p2r_ds_nei_idx{i}"] = rng.integers(0, below, (bs, pixels, 1)).astype(np.int64)
    for i in range(3):
        stride, points = (4, 2, 2)[i], sizes[3 - i]
        pixels = (h // stride) * (w // stride)
        out[f"r2p_up_nei_idx{i}"] = rng.integers(0, pixels, (bs, points, k)).astype(np.int64)
        out[f"p2r_up_nei_idx{i}"] = rng.integers(0, points, (bs, pixels, 1)).astype(np.int64)
    out["labels"] = rng.integers(0, n_cls, (bs, n)).astype(np.int64)
    out["kp_targ_ofst"] = (0.1 * rng.standard_normal((bs, n, 8, 3))).astype(np.float32)
    out["ctr_targ_ofst"] = (0.1 * rng.standard_normal((bs, n, 3))).astype(np.float32)
    return out


def as_inputs(raw: dict[str, np.ndarray[Any, Any]]) -> Inputs:
    """The same under our names."""

    def levels(name: str, count: int) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(raw[f"{name}{i}"]) for i in range(count))

    return Inputs(
        rgb=torch.from_numpy(raw["rgb"]),
        features=torch.from_numpy(raw["cld_rgb_nrm"]),
        choose=torch.from_numpy(raw["choose"])[:, 0],
        neighbours=levels("cld_nei_idx", 4),
        nearest_kept=levels("cld_interp_idx", 4),
        pixels_down=levels("r2p_ds_nei_idx", 4),
        points_down=levels("p2r_ds_nei_idx", 4),
        pixels_up=levels("r2p_up_nei_idx", 3),
        points_up=levels("p2r_up_nei_idx", 3),
    )


def as_targets(raw: dict[str, np.ndarray[Any, Any]]) -> Targets:
    """The same under our names."""
    return Targets(
        torch.from_numpy(raw["labels"]),
        torch.from_numpy(raw["kp_targ_ofst"]),
        torch.from_numpy(raw["ctr_targ_ofst"]),
    )


def without_dropout(net: nn.Module) -> nn.Module:
    """Set every dropout probability to 0, as in the recorded training runs."""
    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return net


def strided(outputs: Outputs, step: int) -> dict[str, Tensor]:
    """Every `step`-th point of the outputs, under the original's names, as recorded."""
    return {
        "pred_rgbd_segs": outputs.segmentation[:, :, ::step],
        "pred_kp_ofs": outputs.keypoint_offsets[:, :, ::step],
        "pred_ctr_ofs": outputs.centre_offsets[:, :, ::step],
    }
