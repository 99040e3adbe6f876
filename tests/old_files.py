"""Checkpoints with the exact structure of those that the originals write."""

import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

AMP = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 11}}
"""What apex's ``amp.state_dict()`` returns."""
_CHECKPOINTING = {"best_model_path": "a.ckpt", "best_model_score": torch.tensor(0.25)}
SPELLINGS = (b"numpy._core.multiarray\nscalar\n", b"numpy.core.multiarray\nscalar\n")
"""The global that makes numpy numbers, in pickles of numpy 2 and of numpy 1."""


def ffb6d(
    state: Mapping[str, Tensor], *, prefix: str = "", it: int = 83496, epoch: int = 20
) -> dict[str, Any]:
    """A training checkpoint of FFB6D."""
    return {
        "epoch": epoch,
        "it": it,
        "best_prec": 0.0873,
        "model_state": prefixed(state, prefix),
        "optimizer_state": adam(_trained(state)),
        "amp": AMP,
    }


def cal(
    model: Mapping[str, Tensor],
    classifier: Mapping[str, Tensor],
    clothes: Mapping[str, Tensor],
    *,
    epoch: int = 54,
) -> dict[str, Any]:
    """A training checkpoint of Simple-CCReID, whose rank1 is a numpy number."""
    return {
        "model_state_dict": OrderedDict(model),
        "classifier_state_dict": OrderedDict(classifier),
        "clothes_classifier_state_dict": OrderedDict(clothes),
        "rank1": np.float64(0.401),
        "epoch": epoch,
    }


def memory_bank(count: int, features: int) -> dict[str, Tensor]:
    """The state of the clothes memory, half of which is filled."""
    filled = torch.arange(count) < count // 2
    return {
        "feature_memory": torch.ones(count, features) * filled.unsqueeze(1),
        "label_memory": torch.where(filled, torch.arange(count), -1),
    }


def lightning(state: Mapping[str, Tensor], *, prefix: str = "model.") -> dict[str, Any]:
    """What Lightning's ModelCheckpoint writes, with a criterion that has a buffer."""
    return {
        "epoch": 7,
        "global_step": 1234,
        "pytorch-lightning_version": "1.9.5",
        "state_dict": prefixed(state, prefix) | {"criterion.weight": torch.ones(3)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": _CHECKPOINTING},
        "optimizer_states": [adam(_trained(state))],
        "lr_schedulers": [{"last_epoch": 7, "_step_count": 8}],
        "hyper_parameters": {"lr": 0.1, "name": "a"},
    }


def prefixed(state: Mapping[str, Tensor], prefix: str) -> "OrderedDict[str, Tensor]":
    """A state dict of a wrapped network."""
    return OrderedDict((prefix + key, value) for key, value in state.items())


def adam(parameters: Iterable[Tensor]) -> dict[str, Any]:
    """Adam's state as PyTorch 1.4 writes it: parameters by address, integer steps.

    All moments are views of one vector, so that the file is small.
    """
    known = {140_000_000_000_000 + 88 * index: value for index, value in enumerate(parameters)}
    means, squares = (
        views_of_one_vector(list(known.values()), start=start, step=1e-9) for start in (-1e-3, 1e-6)
    )
    group = {"lr": 2.1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    return {
        "state": {
            name: {"step": 83496, "exp_avg": mean, "exp_avg_sq": square}
            for name, mean, square in zip(known, means, squares, strict=True)
        },
        "param_groups": [{**group, "initial_lr": 1e-5, "params": list(known)}],
    }


def views_of_one_vector(like: Sequence[Tensor], *, start: float, step: float) -> list[Tensor]:
    """Tensors of the same shapes that are views of one ascending vector, at different offsets."""
    length = len(like) + max(value.numel() for value in like)
    row = start + step * torch.arange(length, dtype=torch.float32)
    return [row[i : i + value.numel()].view(value.shape) for i, value in enumerate(like)]


def is_identical(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts have the same keys in order and the same tensor objects."""
    return list(one) == list(other) and all(one[key] is other[key] for key in one)


def light(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the same shapes and shared tensors whose file is small."""
    places = {v.data_ptr(): v for v in state.values() if v.is_floating_point()}
    rows = dict(
        zip(places, views_of_one_vector([*places.values()], start=1e-3, step=1e-9), strict=True)
    )
    return {key: rows.get(value.data_ptr(), value) for key, value in state.items()}


def _trained(state: Mapping[str, Tensor]) -> list[Tensor]:
    """The parameters in a state dict, shared ones once, in the order of ``parameters()``."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    places = {v.data_ptr(): v for key, v in state.items() if not key.endswith(buffers)}
    return list(places.values())


def write(
    path: Path, raw: Mapping[str, Any], *, legacy: bool = False, spelling: int | None = None
) -> Path:
    """Write a checkpoint in either format, numpy numbers in either of `SPELLINGS`."""
    torch.save(dict(raw), path, _use_new_zipfile_serialization=not legacy)
    if spelling is None:
        return path
    if legacy:
        path.write_bytes(_respell(path.read_bytes(), spelling))
        return path
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, data in members.items():
            new.writestr(name, _respell(data, spelling) if name.endswith("data.pkl") else data)
    return path


def _respell(data: bytes, spelling: int) -> bytes:
    assert any(known in data for known in SPELLINGS), "no numpy number in the pickle"
    for known in SPELLINGS:
        data = data.replace(known, SPELLINGS[spelling])
    return data
