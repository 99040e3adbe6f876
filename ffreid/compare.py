"""Results of several evaluations side by side, with intervals of their differences."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffreid import atomic, report
from ffreid.engine import page
from ffreid.engine.bootstrap import interval
from ffreid.engine.dataset_files import read_text
from ffreid.errors import UserError

AREA_LIMIT = 0.1
"""Metres up to which the area under the accuracy-threshold curve is taken."""
HINT = "use results.json of ffreid eval, or the folder that contains it"
Values = dict[str, dict[str, tuple[str, float]]]
"""By metric and by item its cluster and its value in percent, whose mean is the metric."""


@dataclass(frozen=True)
class Result:
    """One evaluation: its name, ``results.json``, and each query's or instance's values."""

    name: str
    payload: Mapping[str, Any]
    dataset: str
    metrics: dict[str, float]
    values: Values


def compare(
    paths: Sequence[Path], *, json_file: Path | None = None, report_file: Path | None = None
) -> dict[str, Any]:
    """Print the metrics of several results, and their differences to the first.

    Differences have 95 % intervals: paired bootstrap over the queries or instances that both have,
    in clusters of a person or a frame. Areas under curves are compared by the mean of each
    instance's area.

    Raises:
        UserError: fewer than two results, an unreadable one, or results of unlike datasets.
    """
    if len(paths) < 2:
        raise UserError(f"nothing to compare with {paths[0]}", "name two or more results")
    if json_file is not None:
        atomic.check_writable(json_file)
    if report_file is not None:
        page.check(report_file)
    first, *others = results = [
        _read(path, name) for path, name in zip(paths, names(paths), strict=True)
    ]
    for other in others:
        if other.dataset != first.dataset:
            raise UserError(
                f"{first.name} is of {first.dataset}, {other.name} of {other.dataset}",
                "compare results of the same dataset",
            )
    notes, rows, entries = [], [], []
    for metric in first.metrics:
        if not all(metric in other.metrics for other in others):
            continue
        cells: list[report.Cell] = [metric, *(result.metrics[metric] for result in results)]
        entry: dict[str, Any] = {"metric": metric, "values": cells[1:], "differences": []}
        for other in others:
            difference, low_high = _difference(first, other, metric)
            entry["differences"].append({"mean": difference, "interval": low_high})
            around = "" if low_high is None else f" ({low_high[0]:+.2f} to {low_high[1]:+.2f})"
            cells.append(f"{difference:+.2f}{around}")
        entries.append(entry)
        rows.append(cells)
    for other in others:
        notes += _notes(first, other)
    columns = ["percent", *(r.name for r in results), *(f"{r.name} - {first.name}" for r in others)]
    title = f"{first.dataset}: {len(results)} results; differences with 95 % intervals"
    report.show_table(title, columns, rows)
    for note in notes:
        report.log(f"note: {note}")
    payload = {
        "dataset": first.dataset,
        "results": [
            {"name": result.name, "file": path} for result, path in zip(results, paths, strict=True)
        ],
        "metrics": entries,
        "notes": notes,
    }
    if json_file is not None:
        atomic.write_json(json_file, payload)
    if report_file is not None:
        origins = [
            f"{r.name}: {r.payload.get('origin', r.payload.get('weights'))}" for r in results
        ]
        sections = [
            page.Section(title="Results", lines=[*origins, *notes], columns=columns, rows=rows)
        ]
        sections += [
            page.Section(title=f"Settings of {r.name}", code=str(r.payload.get("config", "")))
            for r in results
        ]
        page.write(report_file, title, sections)
        report.log(f"report: {report_file}")
    return payload


def names(paths: Sequence[Path]) -> list[str]:
    """Name results by the part of their paths that differs."""
    if len({_file(path).resolve() for path in paths}) < len(paths):
        raise UserError("a result is named twice", "name each result once")
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in paths]
    if len(set(folders)) < len(paths):  # several files in one folder
        folders = [path.absolute().with_suffix("") for path in paths]
    common = os.path.commonpath(folders)
    return [str(folder.relative_to(common)) for folder in folders]


def _file(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path


def _read(path: Path, name: str) -> Result:
    file = _file(path)
    payload = _load(file)
    results = payload.get("results")
    if not isinstance(results, dict) or not results:
        raise UserError(f"{file} has no results of ffreid eval", HINT)
    try:
        if "pooled" in results:
            rows = _load(file.with_name("poses.json")).get("instances", [])
            return Result(name, payload, results["dataset"], *_pose(results, rows))
        rows = _load(file.with_name("queries.json")).get("queries", [])
        return Result(name, payload, payload["dataset"], *_reid(results, rows))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not complete: {error!r}", HINT) from error


def _load(file: Path) -> dict[str, Any]:
    if file.name != "results.json" and not file.exists():
        return {}  # the table needs only results.json; a note says what is missing
    try:
        payload = json.loads(read_text(file))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", HINT) from error
    except ValueError as error:
        raise UserError(f"{file} is not a JSON file: {error}", HINT) from error
    if not isinstance(payload, dict):
        raise UserError(f"{file} has no results of ffreid eval", HINT)
    return payload


def _pose(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], Values]:
    shown = ("ADD_auc", "ADD-S_auc", "ADD(-S)_auc", "ADD(-S)<0.1d", "ADD-S<2cm")
    metrics = {name.replace("_auc", " AUC"): results["pooled"][name] for name in shown}
    classes = results["classes"]
    metrics |= {f"{name}: ADD(-S) AUC": row["ADD(-S)_auc"] for name, row in classes.items()}
    values: Values = {name: {} for name in metrics}
    for row in rows:
        of_class = classes[row["class"]]
        item = row["frame"], f"{row['frame']} {row['class']}"
        distances = {"ADD": row["ADD_m"], "ADD-S": row["ADD-S_m"]}
        distances["ADD(-S)"] = distances["ADD-S" if of_class["symmetric"] else "ADD"]
        areas = {f"{k} AUC": 100 * max(0.0, 1 - v / AREA_LIMIT) for k, v in distances.items()}
        areas[f"{row['class']}: ADD(-S) AUC"] = areas["ADD(-S) AUC"]
        areas["ADD(-S)<0.1d"] = 100.0 * (distances["ADD(-S)"] < 0.1 * of_class["diameter_m"])
        areas["ADD-S<2cm"] = 100.0 * (distances["ADD-S"] < 0.02)
        for metric, value in areas.items():
            values[metric][item[1]] = item[0], value
    return metrics, values


def _reid(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], Values]:
    metrics: dict[str, float] = {}
    values: Values = {}
    for title, row in results.items():
        if row["rank1"] is None:  # no query is valid
            continue
        for name in ("rank1", "mAP"):
            metric = f"{title} {name.replace('rank1', 'rank-1')}"
            metrics[metric], values[metric] = 100 * row[name], {}
    for row in rows:
        for title, result in row["protocols"].items():
            if (precision := result["AP"]) is None:
                continue
            of = row["identity"], 100.0 * (result["first_match"] == 1)
            values[f"{title} rank-1"][row["path"]] = of
            values[f"{title} mAP"][row["path"]] = row["identity"], 100 * precision
    return metrics, values


def _common(first: Result, other: Result, metric: str) -> list[str]:
    """The queries or instances that both have."""
    theirs = other.values.get(metric, {})
    return [item for item in first.values.get(metric, {}) if item in theirs]


def _difference(
    first: Result, other: Result, metric: str
) -> tuple[float, tuple[float, float] | None]:
    """The difference of a metric, and its interval over the items that both have."""
    mine, theirs = first.values.get(metric, {}), other.values.get(metric, {})
    common = _common(first, other, metric)
    differences = np.array([theirs[item][1] - mine[item][1] for item in common])
    clusters = np.array([mine[item][0] for item in common], str)
    return other.metrics[metric] - first.metrics[metric], interval(differences, clusters)


def _notes(first: Result, other: Result) -> list[str]:
    metric = next(iter(first.metrics))
    counts = len(first.values.get(metric, {})), len(other.values.get(metric, {}))
    for result, count in zip((first, other), counts, strict=True):
        if not count:
            return [
                f"{result.name} has no file of its queries or instances beside it: no intervals of "
                f"{other.name}"
            ]
    common = len(_common(first, other, metric))
    if common == counts[0] == counts[1]:
        return []
    return [
        f"{first.name} has {counts[0]} items, {other.name} {counts[1]}; intervals are of the "
        f"{common} that both have, differences of all"
    ]
