"""The table of pose results, beside the published ones."""

from collections.abc import Mapping
from typing import Any

from ffreid.report import Cell

# What the LineMOD papers print, one number an object.
_SINGLE = "ADD(-S)<0.1d"


def results_table(
    summary: Mapping[str, Any], published: Mapping[str, Any] | None = None
) -> tuple[list[str], list[list[Cell]]]:
    """Lay a summary out for `show_table`, the published numbers in the last columns.

    Args:
        summary: what `summarise` gives.
        published: the data set's entry of the published results, None where there is none.

    Returns:
        Column names and rows: the classes and, where they can be several, all instances pooled
        and the two means over classes.
    """
    shown = ["ADD_auc", "ADD-S_auc", "ADD(-S)_auc", "ADD(-S)<0.1d", "ADD-S<2cm"]
    theirs = _published_columns(published)
    method = "" if published is None else published["method"]
    columns = ["object", "instances", "missed", "unsolved", *map(_heading, shown), "keypoints mm"]
    columns += [f"{method} {_heading(name)}" for name in theirs]

    def line(title: str, row: Mapping[str, Any], values: Mapping[str, float]) -> list[Cell]:
        error = row.get("keypoint_error_m")
        counts = [row.get(name) for name in ("instances", "missed", "unsolved")]
        ours = [*(row[name] for name in shown), None if error is None else error * 1000]
        return [title, *counts, *ours, *(values.get(name) for name in theirs)]

    rows = [line(name, row, _theirs(published, name)) for name, row in summary["classes"].items()]
    if summary["classes_in_all"] == 1:
        return columns, rows
    complete = len(summary["classes"]) == summary["classes_in_all"]
    means = _theirs(published, "mean_of_classes")
    rows.append(line("all instances", summary["pooled"], _theirs(published, "ALL_pooled")))
    present = "mean of the classes present"
    rows.append(line(present, summary["mean_of_present_classes"], means if complete else {}))
    absent = "mean of all classes, absent as 0"
    rows.append(line(absent, summary["mean_of_all_classes"], means))
    return columns, rows


def published_note(published: Mapping[str, Any]) -> str:
    """Say in a line where the published numbers come from and how sure they are."""
    return f"{published['method']}: {published['source']} ({published['status']})"


def _heading(name: str) -> str:
    return name.replace("_auc", " AUC")


def _published_columns(published: Mapping[str, Any] | None) -> list[str]:
    if published is None:
        return []
    entry = next(iter(published["per_object"].values()))
    return list(entry) if isinstance(entry, Mapping) else [_SINGLE]


def _theirs(published: Mapping[str, Any] | None, name: str) -> Mapping[str, float]:
    """Give the published values of an object or of a summary row, empty where there are none."""
    if published is None:
        return {}
    entry = published["per_object"].get(name, published.get(name, {}))
    return entry if isinstance(entry, Mapping) else {_SINGLE: entry}
