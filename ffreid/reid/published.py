"""Published results of CAL, given only to what was done the same way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ffreid.reid.features import BASELINE, CAL
from ffreid.reid.resources import resource

_MARKS = {"secondary": "read in a later paper's table", "recalled": "not verified"}


@dataclass(frozen=True)
class PublishedResult:
    """A published row, shares of 1.

    Attributes:
        rank1: rank-1.
        mAP: mean average precision.
        confidence: ``paper``, or one of the marks.
        valid: how many queries have a match in the published evaluation; None if that is unknown.
    """

    rank1: float
    mAP: float
    confidence: str
    valid: int | None = None

    @property
    def mark(self) -> str:
        """What to print behind the numbers."""
        return f" ({self.confidence})" if self.confidence in _MARKS else ""


def published(dataset: str, network: str, method: str = CAL) -> dict[str, PublishedResult]:
    """Give what is published of a data set's protocols, by name, with this very network.

    Args:
        dataset: its name.
        network: what makes the features.
        method: what trained it, `CAL` or `BASELINE`.
    """
    found = {}
    baseline = method == BASELINE
    for protocol, entry in _entries(dataset).items():
        others = {} if baseline else entry.get("others", {})
        own = entry.get("baseline") if baseline else entry
        values = own if entry["network"] == network else others.get(network)
        if values is not None:
            found[protocol] = PublishedResult(
                rank1=values["rank1"] / 100,
                mAP=values["map"] / 100,
                confidence=entry["confidence"],
                valid=entry.get("valid"),
            )
    return found


def notes(dataset: str, network: str, protocols: Collection[str], method: str = CAL) -> list[str]:
    """Say in a line each where published numbers come from and what to know of them.

    Args:
        dataset: its name.
        network: what made the features.
        protocols: names of the rows shown; nothing is said if none of them is published.
        method: see `published`.
    """
    entries = _entries(dataset)
    if not set(entries) & set(protocols):
        return []
    found = published(dataset, network, method)
    if not set(found) & set(protocols):
        return [
            f"note: nothing is published of {network} on {dataset} ({method}), so nothing is "
            "compared"
        ]
    marks = {found[name].confidence for name in protocols if name in found}
    lines = [f"published: {method}, {resource('published')['_source']}"]
    if about := resource("published")[dataset].get("_note"):
        lines.append(f"published: {about}")
    return lines + [f"published: {mark} is {_MARKS[mark]}" for mark in sorted(marks & set(_MARKS))]


def _entries(dataset: str) -> Mapping[str, Any]:
    entries = resource("published").get(dataset, {})
    return {name: entry for name, entry in entries.items() if not name.startswith("_")}
