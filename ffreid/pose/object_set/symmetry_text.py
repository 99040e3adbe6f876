"""Symmetries in models_info.json's form, in words and as axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ffreid.pose.object_set.surface import Floats

_MOST = 4
"""Axes that are named one by one."""


def describe(info: Mapping[str, Any]) -> str:
    """Name the symmetries of an object, e.g. ``any turn about z; 180° about x``."""
    continuous = [_axis_name(np.array(s["axis"])) for s in info.get("symmetries_continuous", ())]
    if len(continuous) > 1:
        return "any turn about any axis"
    texts = [f"any turn about {name}" for name in continuous]
    by_turn: dict[int, list[str]] = {}
    for rotation in _rotations(info):
        turn = Rotation.from_matrix(rotation).as_rotvec(degrees=True)
        by_turn.setdefault(round(float(np.linalg.norm(turn))), []).append(_axis_name(turn))
    for degrees, names in sorted(by_turn.items(), reverse=True):
        unique = list(dict.fromkeys(names))
        about = ", ".join(unique) if len(unique) <= _MOST else f"{len(unique)} axes"
        texts.append(f"{degrees}° about {about}")
    return "; ".join(texts) or "none"


def axes_of(info: Mapping[str, Any]) -> list[tuple[Floats, Floats]]:
    """The axes of an object's symmetries, metres: a point (3,) and a direction (3,) each."""
    axes = [
        (np.array(s["offset"], float) / 1000, np.array(s["axis"], float))
        for s in info.get("symmetries_continuous", ())
    ]
    for transform in info.get("symmetries_discrete", ()):
        matrix = np.array(transform, float).reshape(4, 4)
        vector = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
        direction = vector / np.linalg.norm(vector)
        if any(abs(direction @ other) > 0.99 for _, other in axes):
            continue
        # A point that stays in place; the least of them lies nearest to the origin.
        point = np.linalg.lstsq(np.eye(3) - matrix[:3, :3], matrix[:3, 3], rcond=None)[0]
        axes.append((point / 1000, direction))
    return axes


def _rotations(info: Mapping[str, Any]) -> list[Floats]:
    matrices = [np.array(m, float).reshape(4, 4) for m in info.get("symmetries_discrete", ())]
    return [matrix[:3, :3] for matrix in matrices]


def _axis_name(axis: Floats) -> str:
    axis = axis / np.linalg.norm(axis)
    largest = int(np.abs(axis).argmax())
    if abs(axis[largest]) > 0.999:
        return "xyz"[largest]
    sign = np.sign(axis[largest])
    return "(" + " ".join(f"{value + 0.0:.2f}" for value in axis * sign) + ")"
