"""Evaluations of one network for each object, put together: one table, one results file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.engine.dataset_files import read_text, reason_of
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError
from ffreid.pose.bop.dataset import BopDataset
from ffreid.pose.bop.evaluation import evaluate_results
from ffreid.pose.bop.results import HEADER
from ffreid.pose.objects import ObjectModels
from ffreid.pose.published import comparable_results
from ffreid.pose.results_table import results_table
from ffreid.pose.scoring import InstanceScore, diameters, summarise

HINT = (
    "use the folder of one dataset's runs, each evaluated: runs/lmo/ape/results.json and the like"
)


def evaluate_separate(
    folder: Path,
    objects: ObjectModels,
    data: BopDataset | None,
    *,
    name: str,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Score the runs ``folder/*/results.json`` of the dataset `name`, one for each of its objects.

    Their BOP results, where `data` is given, are joined to ``folder/ffreid_NAME-SPLIT.csv``.

    Raises:
        UserError: there are no such runs, or two of an object.
    """
    if json_file is not None:
        atomic.check_writable(json_file)
    runs = {path.parent: _read(path) for path in sorted(folder.glob("*/results.json"))}
    owner: dict[str, Path] = {}
    scores, comparisons, lines = (
        list[InstanceScore](),
        list[Mapping[str, Any] | None](),
        list[str](),
    )
    for run, results in runs.items():
        rows = _read(run / "poses.json").get("instances", [])
        for row in rows:
            if row["class"] not in objects.names:
                known = ", ".join(objects.names)
                raise UserError(f"{run}: {row['class']} is no object of {name}: {known}", HINT)
            if owner.setdefault(row["class"], run) != run:
                raise UserError(f"{row['class']} is in {owner[row['class']]} and in {run}", HINT)
            scores.append(
                InstanceScore(
                    index=len(scores),
                    frame=row["frame"],
                    class_id=objects.names.index(row["class"]) + 1,
                    detected=row["detected"],
                    solved=row["solved"],
                    add=row["ADD_m"],
                    adds=row["ADD-S_m"],
                    keypoint_error=row["keypoint_error_m"],
                )
            )
        published, lines = comparable_results(
            name, results["frames"], results.get("trained_on") or ""
        )
        comparisons.append(published)
    if not scores:
        raise UserError(f"{folder} holds no evaluated runs of {name}", HINT)
    summary = summarise(scores, objects, diameters(objects, {}))
    every = all(found is not None for found in comparisons)
    if not every:
        lines = ["note: a run is not comparable with published results, which are not shown"]
    table = results_table(summary, comparisons[0] if every else None)
    report.show_table(f"{name}: poses, one network for each object", *table)
    if absent := [each for each in objects.names if each not in owner]:
        lines.append(f"note: no run of {', '.join(absent)}")
    for line in lines:
        report.log(line)
    payload: dict[str, Any] = {
        "results": summary,
        "runs": {each: owner[each] for each in objects.names if each in owner},
        "notes": lines,
        "provenance": run_folder.provenance(0, 1, "cpu"),
    }
    if data is not None and (rows := _joined([*runs], f"ffreid_{name}-{data.folder.name}.csv")):
        path = folder / f"ffreid_{name}-{data.folder.name}.csv"
        with atomic.atomic_write(path) as file:
            file.write("\n".join([HEADER, *rows, ""]).encode())
        report.log(f"BOP results: {path}")
        numbers = [objects.numbers[objects.names.index(each)] for each in owner]
        chosen = () if {*data.objects} <= {*numbers} else numbers
        payload["bop"] = evaluate_results(data, path, name=name, numbers=chosen, own=True)
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def _joined(runs: list[Path], name: str) -> list[str]:
    """The rows of the runs' results files."""
    return [
        line
        for run in runs
        if (run / name).is_file()
        for line in read_text(run / name).splitlines()[1:]
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
        content["instances" if path.name == "poses.json" else "frames"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", HINT) from error
    return dict(content)
