"""BOP's average recall: estimates matched to true instances over thresholds of their errors."""

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
                sum(_matched(group, kind, index, float(limit)) for group in kept) / total
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


def _matched(group: Sequence[Pair], kind: str, index: int, limit: float) -> int:
    """Number of estimates that are matched, each to the free instance of least error."""
    taken: set[int] = set()
    for estimate in dict.fromkeys(pair.estimate for pair in group):
        free = [
            (float(np.atleast_1d(getattr(pair, kind))[index]), pair.true)
            for pair in group
            if pair.estimate == estimate and pair.true not in taken
        ]
        if free and min(free)[0] < limit:
            taken.add(min(free)[1])
    return len(taken)
