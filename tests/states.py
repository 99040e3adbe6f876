"""Comparing checkpoints value by value."""

from typing import Any

import torch


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Paths of all values in which two checkpoints differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [at for key in one for at in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    return [] if one == other else [where]
