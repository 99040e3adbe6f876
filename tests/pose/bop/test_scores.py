"""Average precision of detection, against a plain loop and by hand."""

from typing import Any

import numpy as np
import pytest

from ffreid.pose.bop.scores import (
    PIXELS,
    THRESHOLDS,
    Detections,
    Pair,
    Target,
    average_precisions,
)

ONE: Target = (1, 0, 4)


def pair(estimate: int, true: int, score: float, error: float, target: Target = ONE) -> Pair:
    """MSSD and MSPD are as far from their largest thresholds."""
    return Pair(target, estimate, true, score, error, 100 * error, np.ones(10))


def scored(pairs: list[Pair], shares: list[float], scores: list[float]) -> dict[str, Any]:
    truths = {ONE: dict(enumerate(shares))}
    estimates = {(ONE, place): score for place, score in enumerate(scores)}
    return average_precisions(pairs, Detections(truths, estimates))


@pytest.mark.parametrize(
    ("shares", "scores", "errors", "expected"),
    [
        ([1], [0.5], [[0.01]], 1.0),
        ([1], [], [], 0.0),
        ([1], [0.5], [[0.9]], 0.0),
        # Half the recalls, of which recall 0.5 is the 51st.
        ([1, 1], [0.5], [[0.01, 0.9]], 51 / 101),
        # A wrong estimate before, or after, the right one.
        ([1], [0.4, 0.5], [[0.01], [0.9]], 0.5),
        ([1], [0.5, 0.4], [[0.01], [0.9]], 1.0),
        # One that is hardly visible: neither found nor missed it counts.
        ([1, 0.05], [0.5], [[0.01, 0.9]], 1.0),
        ([1, 0.05], [0.4, 0.5], [[0.01, 0.9], [0.9, 0.01]], 1.0),
        # The same instance twice: the second is wrong.
        ([1, 1], [0.6, 0.5, 0.4], [[0.01, 0.9], [0.02, 0.9], [0.9, 0.01]], (51 + 50 * 2 / 3) / 101),
        # Right below the thresholds from 0.15 on.
        ([1], [0.5], [[0.12]], 0.8),
    ],
)
def test_precision_is_averaged_over_recalls_and_thresholds(
    shares: list[float], scores: list[float], errors: list[list[float]], expected: float
) -> None:
    pairs = [
        pair(estimate, true, scores[estimate], error)
        for estimate, row in enumerate(errors)
        for true, error in enumerate(row)
    ]
    found = scored(pairs, shares, scores)
    assert found["AP_MSSD"] == pytest.approx(expected)
    assert found["AP"] == found["AP_MSPD"] == found["AP_MSSD"]


def test_objects_count_equally_and_those_without_a_visible_instance_not() -> None:
    other: Target = (1, 0, 9)
    hidden: Target = (1, 0, 11)
    truths = {ONE: {0: 1.0}, other: {0: 1.0, 1: 1.0}, hidden: {0: 0.0}}
    pairs = [pair(0, 0, 0.5, 0.01)]
    absent: Target = (1, 3, 4)
    estimates = {(ONE, 0): 0.5, (hidden, 1): 0.5, (absent, 0): 0.9}
    found = average_precisions(pairs, Detections(truths, estimates))
    # An estimate of an object that is not in its image is wrong.
    assert found["AP_objects"]["4"]["AP"] == pytest.approx(0.5)
    assert found["AP_objects"]["9"]["AP"] == 0
    assert "11" not in found["AP_objects"]
    assert found["AP"] == pytest.approx(0.25)
    assert average_precisions([], Detections({}, {}))["AP"] == 0


def test_precisions_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    targets: list[Target] = [(1, image, 4) for image in range(12)]
    truths: dict[Target, dict[int, float]] = {}
    estimates: dict[tuple[Target, int], float] = {}
    pairs = []
    for target in targets:
        truths[target] = dict(enumerate(rng.choice([0.05, 0.5, 1.0], 3).tolist()))
        for place in range(4):
            estimates[target, place] = float(rng.random())
            pairs += [
                pair(place, true, estimates[target, place], float(rng.random() ** 2), target)
                for true in truths[target]
            ]
    found = average_precisions(pairs, Detections(truths, estimates))
    for name, limits, key in (("AP_MSSD", THRESHOLDS, "mssd"), ("AP_MSPD", PIXELS, "mspd")):
        values = [_plain(pairs, truths, estimates, key, limit) for limit in limits]
        assert found[name] == pytest.approx(np.mean(values))


def _plain(pairs: list[Pair], truths: Any, estimates: Any, key: str, limit: float) -> float:
    marks = []
    for (target, _), score in estimates.items():
        better = sorted(
            (p for p in estimates if p[0] == target and estimates[p] >= score),
            key=lambda p: -estimates[p],
        )
        taken: set[int] = set()
        mark: bool | None = False
        for _, other in better:
            own = [p for p in pairs if p.target == target and p.estimate == other]
            free = [p for p in own if p.true not in taken and getattr(p, key) < limit]
            mark = False
            if free:
                best = min(free, key=lambda p: getattr(p, key))
                taken.add(best.true)
                mark = True if truths[target][best.true] >= 0.1 else None
        marks.append((score, mark))
    kept = [mark for _, mark in sorted(marks, key=lambda m: -m[0]) if mark is not None]
    count = sum(share >= 0.1 for shares in truths.values() for share in shares.values())
    points = []
    for end in range(1, len(kept) + 1):
        points.append((sum(kept[:end]) / count, sum(kept[:end]) / end))
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max([p for r, p in points if r >= at], default=0) for at in recalls]))
