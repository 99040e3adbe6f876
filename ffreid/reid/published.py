"""Published results of CAL, compared only with results of the same procedure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ffreid.reid.features import BASELINE, CAL
from ffreid.reid.resources import resource

_MARKS = {"secondary": "from a table in a later paper", "recalled": "not verified"}


@dataclass(frozen=True)
class PublishedResult:
    """A published row, from 0 to 1; `confidence` is ``paper``, ``secondary`` or ``recalled``.

    `valid` is the number of queries with a match in the published evaluation; None if unknown.
    """

    rank1: float
    mAP: float
    confidence: str
    valid: int | None = None

    @property
    def mark(self) -> str:
        """Suffix of the printed numbers."""
        return f" ({self.confidence})" if self.confidence in _MARKS else ""


def published_results(dataset: str, network: str, method: str = CAL) -> dict[str, PublishedResult]:
    """Published results by protocol of a dataset, for this network trained by `method`."""
    results = {}
    for protocol, entry in _entries(dataset).items():
        values = entry.get("baseline") if method == BASELINE else entry
        if entry["network"] != network:
            others = {} if method == BASELINE else entry.get("others", {})
            values = others.get(network)
        if values is not None:
            results[protocol] = PublishedResult(
                rank1=values["rank1"] / 100,
                mAP=values["map"] / 100,
                confidence=entry["confidence"],
                valid=entry.get("valid"),
            )
    return results


def publication_notes(
    dataset: str, network: str, protocols: Collection[str], method: str = CAL
) -> list[str]:
    """Lines on the sources of the published results of `protocols`; none without any."""
    if not set(_entries(dataset)) & set(protocols):
        return []
    results = published_results(dataset, network, method)
    if not set(results) & set(protocols):
        return [f"note: no published results of {network} on {dataset} ({method})"]
    marks = {results[name].confidence for name in protocols if name in results}
    lines = [f"published: {method}, {resource('published')['_source']}"]
    if about := resource("published")[dataset].get("_note"):
        lines.append(f"published: {about}")
    return lines + [f"published: {mark}: {_MARKS[mark]}" for mark in sorted(marks & set(_MARKS))]


def _entries(dataset: str) -> Mapping[str, Any]:
    entries = resource("published").get(dataset, {})
    return {name: entry for name, entry in entries.items() if not name.startswith("_")}
