"""Comparing checkpoints value by value."""

from typing import Any

import torch


def without_clocks(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without configuration and times."""
    sums = {k: v for k, v in state["epoch_sums"].items() if k not in ("seconds", "waited")}
    return state | {"epoch_sums": sums, "config": ""}


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without times, and without rows of saves."""
    return [
        {key: row[key] for key in row if key not in ("seconds", "waited")}
        for row in rows
        if not any(key.startswith("save/") for key in row)
    ]


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Paths of all values in which two checkpoints differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [path for key in one for path in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return [path for a, b in zip(one, other, strict=True) for path in differences(a, b, where)]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    return [] if one == other else [where]
