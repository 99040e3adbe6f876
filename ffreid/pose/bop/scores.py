"""BOP's average recall (2019, localisation) and average precision (2024, detection).

Estimates are matched to true instances over thresholds of their errors.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.pose.bop.errors import TAUS

THRESHOLDS = np.arange(0.05, 0.51, 0.05)
"""Of VSD, and of MSSD as fractions of the diameter."""
PIXELS = np.arange(5.0, 51.0, 5.0)
"""Thresholds of MSPD at a width of 640 pixels."""
VISIBLE = 0.1
"""Share of an instance that must be visible: a less visible one need not be detected, but may."""
MOST = 100
"""Best scored estimates of an image that count in detection."""
RECALLS = np.linspace(0, 1, 101)
Target = tuple[int, int, int]
"""Scene, image and object."""


@dataclass(frozen=True)
class Pair:
    """The errors of an estimate against a true instance of its object in the same image.

    `estimate` and `true` are their positions in the results and in the scene's truth; `mssd` is in
    diameters, `mspd` in pixels at a width of 640, `vsd` (10,) for each tau.
    """

    target: Target
    estimate: int
    true: int
    score: float
    mssd: float
    mspd: float
    vsd: npt.NDArray[np.float64]


def average_recalls(pairs: Sequence[Pair], targets: Mapping[Target, int]) -> dict[str, Any]:
    """Return ``AR_VSD``, ``AR_MSSD``, ``AR_MSPD``, their mean ``AR``, and the recalls.

    `targets` are the numbers of instances to find; of each the best scored estimates are kept, as
    many as there are instances.
    """
    groups: dict[Target, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.target in targets:
            groups[pair.target].append(pair)
    kept = [_best(group, targets[target]) for target, group in groups.items()]
    total = max(sum(targets.values()), 1)
    kinds = {
        "MSSD": [("mssd", 0, THRESHOLDS)],
        "MSPD": [("mspd", 0, PIXELS)],
        "VSD": [("vsd", index, THRESHOLDS) for index in range(len(TAUS))],
    }
    result: dict[str, Any] = {}
    for name, rows in kinds.items():
        recalls = [
            [
                sum(len(_matches(group, kind, index, float(limit))) for group in kept) / total
                for limit in limits
            ]
            for kind, index, limits in rows
        ]
        result[f"recall_{name.lower()}"] = recalls if name == "VSD" else recalls[0]
        result[f"AR_{name}"] = float(np.mean(recalls))
    means = [result[f"AR_{name}"] for name in kinds]
    return {"AR": float(np.mean(means)), **result}


def _best(group: Sequence[Pair], count: int) -> list[Pair]:
    """The pairs of the `count` best scored estimates, the best first."""
    scores = {pair.estimate: pair.score for pair in group}
    best = sorted(scores, key=lambda estimate: -scores[estimate])[:count]
    place = {estimate: index for index, estimate in enumerate(best)}
    return sorted((p for p in group if p.estimate in place), key=lambda p: place[p.estimate])


def _matches(group: Sequence[Pair], kind: str, index: int, limit: float) -> dict[int, int]:
    """The instance of each matched estimate: the free one of least error, best estimates first."""
    taken: dict[int, int] = {}
    for estimate in dict.fromkeys(pair.estimate for pair in group):
        free = [
            (float(np.atleast_1d(getattr(pair, kind))[index]), pair.true)
            for pair in group
            if pair.estimate == estimate and pair.true not in taken.values()
        ]
        if free and min(free)[0] < limit:
            taken[estimate] = min(free)[1]
    return taken


@dataclass(frozen=True)
class Detections:
    """What is to be detected and what is, in the images of the detection task.

    Attributes:
        truths: visible shares of the instances of each object and image by their positions.
        estimates: scores of the estimates, by target and position in the image's results.
    """

    truths: Mapping[Target, Mapping[int, float]]
    estimates: Mapping[tuple[Target, int], float]


def average_precisions(pairs: Sequence[Pair], found: Detections) -> dict[str, Any]:
    """Return ``AP_MSSD``, ``AP_MSPD``, their mean ``AP``, and ``AP_objects``, that of each object.

    For each object and threshold the mean, over 101 recalls, of the best precision at that recall
    or a higher one; estimates matched to an instance that is hardly visible are left out.
    """
    groups: dict[Target, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if (pair.target, pair.estimate) in found.estimates:
            groups[pair.target].append(pair)
    kinds = {"MSSD": ("mssd", THRESHOLDS), "MSPD": ("mspd", PIXELS)}
    counts: dict[int, int] = defaultdict(int)
    for target, instances in found.truths.items():
        counts[target[2]] += sum(visible >= VISIBLE for visible in instances.values())
    objects: dict[str, dict[str, float]] = {}
    for number in sorted(number for number, count in counts.items() if count):
        own = {key: score for key, score in found.estimates.items() if key[0][2] == number}
        ranked = sorted(own, key=lambda key: -own[key])
        row = {}
        for name, (kind, limits) in kinds.items():
            values = []
            for limit in limits:
                right = {
                    (target, estimate): found.truths[target][true] >= VISIBLE
                    for target in groups
                    if target[2] == number
                    for estimate, true in _matches(
                        _best(groups[target], len(groups[target])), kind, 0, float(limit)
                    ).items()
                }
                counted = [
                    right.get(key, False) for key in ranked if right.get(key) or key not in right
                ]
                values.append(_interpolated_precision(counted, counts[number]))
            row[f"AP_{name}"] = float(np.mean(values))
        objects[str(number)] = {"AP": (row["AP_MSSD"] + row["AP_MSPD"]) / 2, **row}
    means = {
        name: float(np.mean([row[name] for row in objects.values()])) if objects else 0.0
        for name in ("AP", "AP_MSSD", "AP_MSPD")
    }
    return {**means, "AP_objects": objects}


def _interpolated_precision(right: Sequence[bool], count: int) -> float:
    """The mean of the best precisions at `RECALLS` of estimates in order of score."""
    hits = np.cumsum(right)
    recall, precision = hits / count, hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS)
    return float(np.where(place < len(best), np.append(best, 0)[place], 0).mean())
