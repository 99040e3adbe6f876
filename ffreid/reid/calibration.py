"""Cosines that tell a known person from a stranger, at stated false-match rates.

A stranger is a query whose person is not in the gallery. One is matched falsely if any gallery item
passes the threshold, so the rate of a threshold grows with the gallery. It is estimated from the
cosines of each query to the items of other persons: with k of N of them at the threshold or above,
a gallery of n items drawn from them lets the stranger through with probability
1 - C(N - k, n) / C(N, n). With one item this is the rate of pairs (FMR), with n the false positive
identification rate (FPIR) of ISO/IEC 19795-1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import gammaln
from torch import Tensor

from ffreid import atomic
from ffreid.engine.calibrations import AGAIN, content_of, path_of
from ffreid.engine.dataset_files import reason_of
from ffreid.errors import UserError
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import Protocol, filter_mask, match_masks, usable_protocols
from ffreid.report import Cell, log

RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
BINS = 4096
"""Of cosines from -1 to 1: thresholds are at their edges, at most 0.0005 too high."""
LARGER = 1.1
"""A gallery so many times as large is noted: that of a stranger lacks one person's items."""
_BLOCK_BYTES = 64 << 20
_Z = 1.959964  # 95 %
_ROUNDING = 1e-9
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds of one protocol.

    Attributes:
        identities, queries: those that played strangers.
        sizes: numbers of gallery items, up to those of the evaluation.
        rates: false-match rates.
        thresholds: of the cosine, for each rate and size; None where a rate is too small to tell.
        intervals: 95 % Wilson intervals of each rate, as measured on so many identities.
        found: share of queries whose best match passes, for each rate, in the whole gallery.
    """

    protocol: str
    identities: int
    queries: int
    sizes: list[int]
    rates: list[float]
    thresholds: list[list[float | None]]
    intervals: list[tuple[float, float]]
    found: list[float | None]

    def threshold(self, rate: float, items: int) -> float:
        """The threshold of a rate in a gallery of `items`, between sizes by their logarithm.

        Raises:
            UserError: the rate is not known.
        """
        self.interval(rate)
        row = self.thresholds[self.rates.index(rate)]
        if items > LARGER * self.sizes[-1]:
            log(
                f"note: the gallery has {items} items, that of the calibration {self.sizes[-1]}: "
                "more strangers pass than stated"
            )
        above = next((i for i, size in enumerate(self.sizes) if size >= items), -1)
        values = [value for value in row[: above + 1 or None] if value is not None]
        if row[above] is None:
            least = min(
                known
                for known, other in zip(self.rates, self.thresholds, strict=True)
                if other[above] is not None
            )
            raise UserError(
                f"{self.queries} queries of {self.identities} persons cannot tell the threshold of "
                f"a false-match rate of {rate:g} in a gallery of {items} items",
                f"use --false-match-rate {least:g} or more, or calibrate on more queries",
            )
        return float(np.interp(math.log(items), np.log(self.sizes[: len(values)]), values))

    def interval(self, rate: float) -> tuple[float, float]:
        """The 95 % interval of a rate.

        Raises:
            UserError: the rate is not known.
        """
        if rate not in self.rates:
            raise UserError(
                f"no threshold for a false-match rate of {rate:g}",
                f"choose one of: {', '.join(f'{known:g}' for known in self.rates)}",
            )
        return self.intervals[self.rates.index(rate)]


def calibrate(features: ExtractedFeatures, device: torch.device) -> list[Calibration]:
    """Calibrate on all usable protocols of an evaluation whose queries have other persons."""
    labels = features.labels(device)
    protocols, _ = usable_protocols(features.protocols, *labels)
    results = (_calibrate(features, protocol, device) for protocol in protocols)
    found = [result for result in results if result is not None]
    if not found:
        raise UserError(
            f"{features.dataset} cannot be calibrated: no query has gallery items of other persons",
            "use a dataset with several persons",
        )
    return found


def _calibrate(
    features: ExtractedFeatures, protocol: Protocol, device: torch.device
) -> Calibration | None:
    query, gallery = features.labels(device)
    items = features.gallery.features.to(device)
    takes_part = filter_mask(gallery, protocol.gallery)
    asked = filter_mask(query, protocol.queries).nonzero().view(-1)
    persons, of_person = query["identity"], gallery["identity"][takes_part]
    number, counts = torch.unique(of_person, return_counts=True)
    own = torch.where(number == persons[asked, None], counts, 0).sum(dim=1)
    others = len(of_person) - own
    asked, count = asked[others > 0], int(others[others > 0].min()) if (others > 0).any() else 0
    if not count:
        return None
    sizes = [n for k in range(10) for n in (10**k, 3 * 10**k) if n < count] + [count]
    rates = np.zeros((len(sizes), BINS))  # at the lower edge of each bin
    best = []
    for part in torch.split(asked, max(1, _BLOCK_BYTES // (4 * len(items)))):
        cosines = features.query.features[part.cpu()].to(device) @ items.T
        match, _ = match_masks(protocol, {k: v[part] for k, v in query.items()}, gallery)
        best.append(cosines.masked_fill(~(match & takes_part), -torch.inf).amax(dim=1).cpu())
        is_other = takes_part & (persons[part, None] != gallery["identity"])
        above = _counts(cosines, is_other)
        for row, size in enumerate(sizes):
            rates[row] += _let_through(above, size).sum(axis=0) / len(asked)
    identities = len(set(persons[asked].tolist()))
    thresholds = [
        [
            # One query that passes at all is more than the rate.
            _first_edge(rates[row] <= rate + _ROUNDING)
            if rate * len(asked) * count >= size
            else None
            for row, size in enumerate(sizes)
        ]
        for rate in RATES
    ]
    found, limits = torch.cat(best).numpy(), [row[-1] for row in thresholds]
    found = found[np.isfinite(found)]
    return Calibration(
        protocol=protocol.name,
        identities=identities,
        queries=len(asked),
        sizes=sizes,
        rates=list(RATES),
        thresholds=thresholds,
        intervals=[wilson(rate, identities) for rate in RATES],
        found=[None if t is None or not len(found) else float((found >= t).mean()) for t in limits],
    )


def _counts(cosines: Tensor, mask: Tensor) -> Floats:
    """How many cosines of each row, where `mask` is true, are at each bin's edge or above."""
    bins = ((cosines.double() + 1) * (BINS / 2)).floor().clamp(0, BINS - 1).long()
    bins += torch.arange(len(bins), device=bins.device)[:, None] * BINS
    counts = torch.bincount(bins[mask], minlength=len(bins) * BINS).view(-1, BINS)
    return np.asarray(counts.flip(1).cumsum(1).flip(1).cpu().numpy(), np.float64)


def _let_through(counts: Floats, size: int) -> Floats:
    """The probability that one of `size` items, drawn from a row's, is among its counts."""
    # The first column counts all.
    total = counts[:, :1]
    drawn = np.minimum(size, total)
    # The logarithm of C(N - k, n) / C(N, n).
    rest = total - counts - drawn
    logarithm = (
        gammaln(total - counts + 1)
        - gammaln(np.maximum(rest, 0) + 1)
        - gammaln(total + 1)
        + gammaln(total - drawn + 1)
    )
    return np.where(rest < 0, 1.0, -np.expm1(logarithm))


def _first_edge(passes: npt.NDArray[np.bool_]) -> float | None:
    """The cosine at the first bin's edge from which on all pass."""
    failing = np.flatnonzero(~passes)
    first = failing[-1] + 1 if len(failing) else 0
    return None if first == BINS else float(first * 2 / BINS - 1)


def wilson(rate: float, count: int) -> tuple[float, float]:
    """95 % interval of a rate that was measured on `count` independent persons (Wilson 1927)."""
    spread = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
    centre, scale = rate + _Z**2 / (2 * count), 1 + _Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


COLUMNS = ("protocol", "false matches", "95 % interval", "cosine", "found", "persons")


def table(results: list[Calibration]) -> list[list[Cell]]:
    """Rows under `COLUMNS`, for the whole gallery; shares are percent."""
    return [
        [
            one.protocol,
            f"{100 * rate:g}",
            f"{100 * low:.2g} to {100 * high:.2g}",
            None if thresholds[-1] is None else f"{thresholds[-1]:.4f}",
            None if found is None else f"{100 * found:.1f}",
            one.identities,
        ]
        for one in results
        for rate, (low, high), thresholds, found in zip(
            one.rates, one.intervals, one.thresholds, one.found, strict=True
        )
        if rate in (0.1, 0.01, 0.001)
    ]


def write(path: Path, results: list[Calibration], origin: Mapping[str, Any]) -> None:
    """Write calibrations with their `origin`, whose ``fingerprint`` is that of the network."""
    protocols = [vars(result) for result in results]
    atomic.write_json(path, {"task": "reid", **origin, "protocols": protocols})


def read(checkpoint: Path, fingerprint: str) -> Calibration:
    """Read the first protocol's calibration from beside a checkpoint.

    Raises:
        UserError: there is none, it is damaged, or of other weights.
    """
    path = path_of(checkpoint)
    if not path.is_file():
        raise UserError(
            f"no calibration {path}",
            f"run ffreid eval --dataset NAME --checkpoint {checkpoint} --calibrate",
        )
    try:
        content = content_of(path, "reid")
        mark, result = content["fingerprint"], Calibration(**content["protocols"][0])
        lengths = {len(row) for row in result.thresholds} | {len(result.sizes)}
        columns = (result.thresholds, result.intervals, result.rates)
        if len(lengths) > 1 or len({len(column) for column in columns}) > 1 or not result.sizes:
            raise ValueError("rates, sizes and thresholds are not of one length")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"cannot read the calibration {path}: {reason_of(error)}", AGAIN) from error
    if mark != fingerprint:
        raise UserError(f"{path} is of other weights or settings", AGAIN)
    return result
