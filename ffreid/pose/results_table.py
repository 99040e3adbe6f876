"""The table of an evaluation, with published results beside its own."""

from collections.abc import Mapping
from typing import Any

from ffreid.report import Cell

_LINEMOD_METRIC = "ADD(-S)<0.1d"
"""The single number per object that LineMOD papers report."""


def results_table(
    summary: Mapping[str, Any], published: Mapping[str, Any] | None = None
) -> tuple[list[str], list[list[Cell]]]:
    """Lay out a summary from `summarise` for `show_table`: column names and rows.

    The rows are the classes and, unless there is only one, all instances pooled and the two means
    over classes; `published` numbers of the dataset are in the last columns.
    """
    shown = ["ADD_auc", "ADD-S_auc", "ADD(-S)_auc", "ADD(-S)<0.1d", "ADD-S<2cm"]
    methods: dict[str, Mapping[str, Any]] = {}
    published_metrics: list[str] = []
    if published is not None:
        entry = next(iter(published["per_object"].values()))
        published_metrics = list(entry) if isinstance(entry, Mapping) else [_LINEMOD_METRIC]
        methods = {published["method"]: published, **published.get("also", {})}
    known = {*(published or summary)["per_object" if published else "classes"]}

    def heading(name: str) -> str:
        return name.replace("_auc", " AUC")

    def published_row(name: str) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for method, numbers in methods.items():
            entry = numbers.get("per_object", {}).get(name, numbers.get(name, {}))
            entry = entry if isinstance(entry, Mapping) else {_LINEMOD_METRIC: entry}
            found |= {(method, metric): value for metric, value in entry.items()}
        return found

    def line(
        title: str, row: Mapping[str, Any], other: Mapping[tuple[str, str], float]
    ) -> list[Cell]:
        error = row.get("keypoint_error_m")
        counts = [row.get(name) for name in ("instances", "missed", "unsolved")]
        ours = [*(row[name] for name in shown), None if error is None else error * 1000]
        return [
            title,
            *counts,
            *ours,
            *(other.get((m, n)) for m in methods for n in published_metrics),
        ]

    columns = ["object", "instances", "missed", "unsolved", *map(heading, shown), "keypoints mm"]
    columns += [f"{method} {heading(name)}" for method in methods for name in published_metrics]
    rows = [line(name, row, published_row(name)) for name, row in summary["classes"].items()]
    if summary["classes_in_all"] > 1:
        means = published_row("mean_of_classes")
        complete = {*summary["classes"]} == known
        present = summary["mean_of_present_classes"]
        rows += [
            line("all instances", summary["pooled"], published_row("ALL_pooled")),
            line("mean of the classes present", present, means if complete else {}),
            line(
                "mean of all classes, absent as 0",
                summary["mean_of_all_classes"],
                means if summary["classes_in_all"] == len(known) else {},
            ),
        ]
    return columns, rows
