"""From raw scores to the probability that a pose is right: ADD(-S) below 0.1 diameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from yacs.config import CfgNode

from ffreid import atomic
from ffreid.engine.calibrations import AGAIN, content_of, path_of
from ffreid.engine.dataset_files import reason_of
from ffreid.errors import UserError
from ffreid.report import Cell, log

Floats = npt.NDArray[np.float64]
BINS, FOLDS, LEAST = 10, 5, 20
"""Bins of the calibration error, parts of the cross-validation, poses that a fit needs."""
_OF_SCORES = ("BANDWIDTH", "USE_CENTRE", "FILTER", "MAX_POINTS")
THRESHOLDS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True)
class Calibration:
    """An increasing map from raw score to probability, linear between its points.

    `origin` tells what it was fitted on; its ``weights`` is the checksum of the network's.
    """

    scores: Floats
    probabilities: Floats
    origin: Mapping[str, Any]

    def probability(self, score: float | Floats) -> Floats:
        """The probability that poses of these raw scores are right."""
        return np.asarray(np.interp(score, self.scores, self.probabilities))


def fit(scores: Sequence[float], right: Sequence[bool], origin: Mapping[str, Any]) -> Calibration:
    """Fit the map to poses that are right or not (isotonic regression; Zadrozny, Elkan 2002).

    Raises:
        UserError: there are too few poses, or SciPy is older than 1.12.
    """
    if len(scores) < LEAST:
        raise UserError(
            f"{len(scores)} poses are too few to calibrate scores",
            f"evaluate more frames: at least {LEAST} poses are needed, a few hundred are better",
        )
    return _fit(np.asarray(scores, np.float64), np.asarray(right, np.float64), origin)


def _fit(scores: Floats, right: Floats, origin: Mapping[str, Any]) -> Calibration:
    try:
        from scipy.optimize import isotonic_regression
    except ImportError as error:
        raise UserError(
            "calibration needs SciPy 1.12 or newer", "run pip install -U scipy"
        ) from error
    order = np.argsort(scores, kind="stable")
    ordered, target = scores[order], right[order]
    # Equal scores are one sample, of their mean.
    values, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    fitted = isotonic_regression(np.add.reduceat(target, first) / counts, weights=counts).x
    # Of each level its two ends.
    kept = np.r_[True, fitted[1:] != fitted[:-1]] | np.r_[fitted[1:] != fitted[:-1], True]
    return Calibration(values[kept], fitted[kept], origin)


def cross_validated(
    scores: Sequence[float], right: Sequence[bool], groups: Sequence[int]
) -> Floats:
    """Probabilities of poses from maps fitted without those of their fold of `groups` (frames)."""
    values, correct = np.asarray(scores, np.float64), np.asarray(right, np.float64)
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    probabilities = np.zeros(len(values))
    for fold in range(FOLDS):
        inside = numbers % FOLDS == fold
        if inside.any() and not inside.all():
            others = _fit(values[~inside], correct[~inside], {})
            probabilities[inside] = others.probability(values[inside])
    return probabilities


def calibration_error(probabilities: Floats, right: Sequence[bool]) -> float:
    """Expected calibration error: mean |probability - share right| over `BINS` equal bins."""
    rows = reliability(probabilities, right)
    return float(sum(n * abs(mean - share) for _, n, mean, share in rows) / max(1, len(right)))


def reliability(
    probabilities: Floats, right: Sequence[bool]
) -> list[tuple[float, int, float, float]]:
    """Of each bin with poses: its lower end, their number, mean probability and share right."""
    correct = np.asarray(right, np.float64)
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    return [
        (b / BINS, int(m.sum()), float(probabilities[m].mean()), float(correct[m].mean()))
        for b in range(BINS)
        if (m := bins == b).any()
    ]


def precision_at(
    probabilities: Floats, right: Sequence[bool]
) -> list[tuple[float, int, float | None, float | None]]:
    """For each of `THRESHOLDS`: poses kept, their share right, share of the right ones kept."""
    correct = np.asarray(right, bool)
    rows: list[tuple[float, int, float | None, float | None]] = []
    for threshold in THRESHOLDS:
        kept = probabilities >= threshold
        hits = int((kept & correct).sum())
        precision = hits / int(kept.sum()) if kept.any() else None
        recall = hits / int(correct.sum()) if correct.any() else None
        rows.append((threshold, int(kept.sum()), precision, recall))
    return rows


def tables(report: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[Cell]]]]:
    """Titles, columns and rows of what `summary` and `check` return."""
    error = f"expected calibration error {report['expected_calibration_error']:.3f}"
    return [
        (
            f"reliability: {report['poses']} poses, {error} ({report['probabilities']})",
            ["probability from", "poses", "mean probability", "share right"],
            [list(row) for row in report["reliability"]],
        ),
        (
            "poses kept by --min-score",
            ["min-score", "poses", "precision", "recall"],
            [list(row) for row in report["thresholds"]],
        ),
    ]


def summary(
    scores: Sequence[float], right: Sequence[bool], frames: Sequence[int]
) -> dict[str, Any]:
    """Reliability and precision, of probabilities fitted without a pose's own frame."""
    how = f"{FOLDS}-fold over frames"
    return _report(cross_validated(scores, right, frames), right, how)


def check(
    calibration: Calibration, scores: Sequence[float], right: Sequence[bool]
) -> dict[str, Any]:
    """The same of a calibration that was fitted on other frames."""
    return _report(calibration.probability(np.asarray(scores, np.float64)), right, "as stored")


def _report(probabilities: Floats, right: Sequence[bool], how: str) -> dict[str, Any]:
    return {
        "probabilities": how,
        "poses": len(right),
        "right": int(np.sum(right)),
        "expected_calibration_error": calibration_error(probabilities, right),
        "reliability": reliability(probabilities, right),
        "thresholds": precision_at(probabilities, right),
    }


def write(path: Path, calibration: Calibration, report: Mapping[str, Any]) -> None:
    """Write a calibration with its origin and its reliability."""
    points = {"scores": calibration.scores, "probabilities": calibration.probabilities}
    atomic.write_json(
        path, {"task": "pose", "origin": calibration.origin} | points | {"held_out": report}
    )


def voting_of(cfg: CfgNode) -> dict[str, Any]:
    """The settings that scores depend on."""
    return {f"VOTE.{key}": cfg.VOTE[key] for key in _OF_SCORES}


def beside(checkpoint: Path, weights: int, voting: Mapping[str, Any]) -> Calibration | None:
    """Read the calibration beside a checkpoint; with a note None if it is of other weights.

    Another note says which settings of `voting_of` were others.
    """
    path = path_of(checkpoint)
    if not path.is_file():
        return None
    calibration = read(path)
    if calibration.origin.get("weights") == weights:
        then = calibration.origin.get("voting", {})
        for key, now in voting.items():
            if key in then and then[key] != now:
                log(f"note: scores were calibrated with {key} {then[key]}, not {now}")
        return calibration
    log(f"note: {path} is of other weights: scores are not calibrated")
    return None


def read(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = content_of(path, "pose")
        scores, probabilities = (
            np.asarray(content[name], np.float64) for name in ("scores", "probabilities")
        )
        if scores.ndim != 1 or scores.shape != probabilities.shape or not len(scores):
            raise ValueError("scores and probabilities are no two lists of one length")
        if not ((np.diff(scores) > 0).all() and (np.diff(probabilities) >= 0).all()):
            raise ValueError("scores do not increase")
        if not (probabilities[0] >= 0 and probabilities[-1] <= 1):
            raise ValueError("probabilities outside 0 … 1")
        return Calibration(scores, probabilities, dict(content["origin"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"cannot read the calibration {path}: {reason_of(error)}",
            AGAIN,
        ) from error
