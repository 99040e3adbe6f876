"""Published results of CAL, compared only with results of the same procedure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ffreid.reid.features import BASELINE, CAL
from ffreid.reid.resources import resource
from ffreid.reid.scoring import ResultRow

_MARKS = {"secondary": "from a table in a later paper", "recalled": "not verified"}


@dataclass(frozen=True)
class PublishedResult:
    """A published row, from 0 to 1; `confidence` is ``paper``, ``secondary`` or ``recalled``.

    `valid` is the number of queries with a match in the published evaluation.
    """

    rank1: float
    mAP: float
    confidence: str
    valid: int

    @property
    def mark(self) -> str:
        """Suffix of the printed numbers."""
        return f" ({self.confidence})" if self.confidence in _MARKS else ""


def published_results(dataset: str, network: str, method: str = CAL) -> dict[str, PublishedResult]:
    """Published results by protocol of a dataset, for this network trained by `method`.

    Those on an unknown number of queries are left out.
    """
    results = {}
    for protocol, entry in _entries(dataset).items():
        values = entry.get("baseline") if method == BASELINE else entry
        if entry["network"] != network:
            others = {} if method == BASELINE else entry.get("others", {})
            values = others.get(network)
        if values is not None and "valid" in entry:
            results[protocol] = PublishedResult(
                rank1=values["rank1"] / 100,
                mAP=values["map"] / 100,
                confidence=entry["confidence"],
                valid=entry["valid"],
            )
    return results


def compare(
    rows: Sequence[ResultRow], dataset: str, network: str, method: str, trained_on: str
) -> tuple[dict[str, PublishedResult], list[str]]:
    """Find the published results that `rows` can be compared with, by title, and lines on them.

    They are of the same protocol, network, method and number of valid queries. `trained_on` is the
    dataset that trained the weights, empty if unknown; without the same training images there are
    none.
    """
    known = set(_entries(dataset)) & {row.protocol for row in rows}
    is_same = _training_images(trained_on) == _training_images(dataset)
    empty = ", so published results are not shown" * bool(known)
    if trained_on and not is_same:
        return {}, [f"note: the weights were trained on {trained_on}, not on {dataset}{empty}"]
    if not known:
        return {}, []
    if not is_same:
        return {}, [f"note: it is not known which dataset trained the weights{empty}"]
    results = published_results(dataset, network, method)
    lines = [
        f"published: {name}: on an unknown number of queries, so not compared"
        for name in _entries(dataset)
        if name in known and "valid" not in _entries(dataset)[name]
    ]
    if not lines and not known & set(results):
        lines.append(f"note: no published results of {network} on {dataset} ({method})")
    found = {r.title: results[r.protocol] for r in rows if r.comparable and r.protocol in results}
    valid = {row.title: row.scores.n_valid for row in rows}
    lines += [
        f"note: {title}: published on {result.valid} queries, so not compared"
        for title, result in found.items()
        if result.valid != valid[title]
    ]
    found = {title: result for title, result in found.items() if result.valid == valid[title]}
    return found, [*lines, *_sources(dataset, method, found)]


def _sources(dataset: str, method: str, found: Mapping[str, PublishedResult]) -> list[str]:
    """Lines on where published results come from."""
    if not found:
        return []
    lines = [f"published: {method}, {resource('published')['_source']}"]
    if about := resource("published")[dataset].get("_note"):
        lines.append(f"published: {about}")
    marks = {result.confidence for result in found.values()} & set(_MARKS)
    return lines + [f"published: {mark}: {_MARKS[mark]}" for mark in sorted(marks)]


def _training_images(dataset: str) -> str:
    """The dataset whose training images `dataset` has."""
    return str(resource("published").get(dataset, {}).get("_trained_on", dataset))


def _entries(dataset: str) -> Mapping[str, Any]:
    entries = resource("published").get(dataset, {})
    return {name: entry for name, entry in entries.items() if not name.startswith("_")}
