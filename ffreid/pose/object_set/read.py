"""Reading ``objects.json`` of an object set, and of a dataset rendered with one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_text, reason_of
from ffreid.errors import UserError

Floats = npt.NDArray[np.float64]

FILE, VERSION = "objects.json", 1
MAKE = "make it again: ffreid objects MESH... --out FOLDER"
_TOLERANCE = 0.02
"""By how much of the diameter sizes and places in the files of a set may differ."""


@dataclass(frozen=True)
class SetObject:
    """An object's name, keypoints (K, 3) and corners (8, 3), metres."""

    name: str
    keypoints: Floats
    corners: Floats


def read_objects(folder: Path, infos: Mapping[int, Mapping[str, Any]]) -> dict[int, SetObject]:
    """The objects of a folder by number; none without ``objects.json``.

    `infos` are the entries of its models_info.json, millimetres.

    Raises:
        UserError: the file is damaged, or is not of these models.
    """
    path = folder / FILE
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", MAKE) from error
    try:
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}, not {VERSION}")
        entries = {int(entry["number"]): entry for entry in content["objects"]}
        if len(entries) < len(content["objects"]):
            raise ValueError("an object twice")
        found = {number: _object(entry) for number, entry in entries.items()}
        diameters = {number: float(entry["diameter"]) for number, entry in entries.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not of an object set: {error!r}", MAKE) from error
    if set(found) != set(infos):
        here, there = (", ".join(map(str, sorted(n))) for n in (found, infos))
        raise UserError(f"{path} has the objects {here}, models_info.json those of {there}", MAKE)
    for number, each in found.items():
        if problem := _difference(each, diameters[number], infos[number]):
            raise UserError(f"{path}: object {number} ({each.name}) {problem}", MAKE)
    for what, values in (
        ("names", [each.name for each in found.values()]),
        ("numbers of keypoints", [len(each.keypoints) for each in found.values()]),
    ):
        expected = len(found) if what == "names" else 1
        if len(set(values)) != expected:
            same = "a name twice" if what == "names" else "objects with unlike numbers of keypoints"
            raise UserError(f"{path} has {same}: {', '.join(map(str, values))}", MAKE)
    return found


def _object(entry: Mapping[str, Any]) -> SetObject:
    keypoints = np.array(entry["keypoints"], np.float64)
    corners = np.array(entry["corners"], np.float64)
    if keypoints.ndim != 2 or keypoints.shape[1] != 3 or len(keypoints) < 3:
        raise ValueError("keypoints are not 3 or more points")
    if corners.shape != (8, 3) or not np.isfinite([*keypoints, *corners]).all():
        raise ValueError("corners are not 8 points, or something is not finite")
    return SetObject(str(entry["name"]), keypoints, corners)


def _difference(each: SetObject, diameter: float, info: Mapping[str, Any]) -> str:
    """Say how an object differs from its model; empty if it does not."""
    there = float(info.get("diameter", 0)) / 1000
    if not abs(diameter - there) <= _TOLERANCE * there:
        return f"has a diameter of {diameter:.4g} m, its model {there:.4g} m"
    low, high = each.corners.min(axis=0), each.corners.max(axis=0)
    slack = _TOLERANCE * diameter
    if (each.keypoints < low - slack).any() or (each.keypoints > high + slack).any():
        return "has keypoints outside of its corners"
    try:
        least = np.array([info[f"min_{axis}"] for axis in "xyz"], float) / 1000
        size = np.array([info[f"size_{axis}"] for axis in "xyz"], float) / 1000
    except KeyError:
        return ""
    if np.abs([*(low - least), *(high - least - size)]).max() > slack:
        return "has other corners than its model"
    return ""
