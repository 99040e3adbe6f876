"""Checkpoints with the exact structure of those that the originals' programs wrote."""

import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

AMP = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 11}}
"""What apex's ``amp.state_dict()`` gives."""
_CHECKPOINTING = {"best_model_path": "a.ckpt", "best_model_score": torch.tensor(0.25)}
SPELLINGS = (b"numpy._core.multiarray\nscalar\n", b"numpy.core.multiarray\nscalar\n")
"""How a pickle names what makes numpy's numbers: by numpy 2 and by numpy 1."""


def ffb6d(
    state: Mapping[str, Tensor], *, prefix: str = "", it: int = 83496, epoch: int = 20
) -> dict[str, Any]:
    """FFB6D's training: epoch, it, best_prec, model_state, optimizer_state, amp."""
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
    """Simple-CCReID's training, whose rank1 is numpy's."""
    return {
        "model_state_dict": OrderedDict(model),
        "classifier_state_dict": OrderedDict(classifier),
        "clothes_classifier_state_dict": OrderedDict(clothes),
        "rank1": np.float64(0.401),
        "epoch": epoch,
    }


def memory_bank(outfits: int, features: int) -> dict[str, Tensor]:
    """The state of the clothes memory, half of which was seen."""
    seen = torch.arange(outfits) < outfits // 2
    return {
        "feature_memory": torch.ones(outfits, features) * seen.unsqueeze(1),
        "label_memory": torch.where(seen, torch.arange(outfits), -1),
    }


def lightning(state: Mapping[str, Tensor], *, prefix: str = "model.") -> dict[str, Any]:
    """What Lightning's ModelCheckpoint writes; a metric of the module has a buffer of its own."""
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
    """A state dict as a wrapper's ``state_dict()`` gives it."""
    return OrderedDict((prefix + key, value) for key, value in state.items())


def adam(parameters: Iterable[Tensor]) -> dict[str, Any]:
    """Adam's state as PyTorch 1.4 writes it: parameters by address, steps as whole numbers.

    All moments are views of one row of numbers, so that the file stays small.
    """
    known = {140_000_000_000_000 + 88 * place: value for place, value in enumerate(parameters)}
    means, squares = (
        in_one_row(list(known.values()), start=start, step=1e-9) for start in (-1e-3, 1e-6)
    )
    group = {"lr": 2.1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    return {
        "state": {
            name: {"step": 83496, "exp_avg": mean, "exp_avg_sq": square}
            for name, mean, square in zip(known, means, squares, strict=True)
        },
        "param_groups": [{**group, "initial_lr": 1e-5, "params": list(known)}],
    }


def in_one_row(like: Sequence[Tensor], *, start: float, step: float) -> list[Tensor]:
    """Give tensors of the same shapes that are views of one ascending row, each from elsewhere."""
    length = len(like) + max(value.numel() for value in like)
    row = start + step * torch.arange(length, dtype=torch.float32)
    return [row[i : i + value.numel()].view(value.shape) for i, value in enumerate(like)]


def light(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a state dict of the same shapes and shared tensors whose file is small."""
    places = {v.data_ptr(): v for v in state.values() if v.is_floating_point()}
    rows = dict(zip(places, in_one_row([*places.values()], start=1e-3, step=1e-9), strict=True))
    return {key: rows.get(value.data_ptr(), value) for key, value in state.items()}


def _trained(state: Mapping[str, Tensor]) -> list[Tensor]:
    """The parameters in a state dict, a shared one once, as ``parameters()`` gives them."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    places = {v.data_ptr(): v for key, v in state.items() if not key.endswith(buffers)}
    return list(places.values())


def write(
    path: Path, raw: Mapping[str, Any], *, legacy: bool = False, spelling: int | None = None
) -> Path:
    """Write a checkpoint in either container, numpy's numbers in either of `SPELLINGS`."""
    torch.save(dict(raw), path, _use_new_zipfile_serialization=not legacy)
    if spelling is not None:
        (_respell_legacy if legacy else _respell_zip)(path, SPELLINGS[spelling])
    return path


def _respelt(data: bytes, spelling: bytes) -> bytes:
    assert any(known in data for known in SPELLINGS), "no numpy number in the pickle"
    for known in SPELLINGS:
        data = data.replace(known, spelling)
    return data


def _respell_legacy(path: Path, spelling: bytes) -> None:
    path.write_bytes(_respelt(path.read_bytes(), spelling))


def _respell_zip(path: Path, spelling: bytes) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, data in members.items():
            new.writestr(name, _respelt(data, spelling) if name.endswith("data.pkl") else data)
