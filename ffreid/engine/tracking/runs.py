"""Runs found on disk and what they came to, from their JSON and YAML files alone (no torch)."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ffreid import atomic, report
from ffreid.engine.tracking import run_state
from ffreid.errors import UserError

_IGNORED = ("OUTPUT", "TAG", "DATASET", "TASK")
"""Settings that differ as a matter of course, or stand in columns of their own."""
_COLUMNS, _WIDTH = 6, 18
"""Most columns of settings, and the most characters of a value."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: it.
        name: its path below the folder that was searched; that folder's own name where it is it.
    """

    folder: Path
    name: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its configuration, by dotted key."""
        return dict(_leaves(_yaml(self.folder / "config.yaml")))

    @cached_property
    def start(self) -> dict[str, Any]:
        """How it was started."""
        return _json(self.folder / "run.json")

    @cached_property
    def metrics(self) -> Rows:
        """The rows of metrics.jsonl; a last one that is being written is left out."""
        try:
            lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        except OSError:
            return []
        rows = (_row(line) for line in lines)
        return [row for row in rows if isinstance(row.get("step"), int)]

    @cached_property
    def state(self) -> dict[str, Any]:
        """What it says that it is doing; see `status.read`."""
        told = run_state.read(self.folder)
        if told is not None:
            return told
        # Of an earlier version.
        step = max((row["step"] for row in self.metrics), default=0)
        total = self.settings.get("TRAIN.STEPS") or None
        return {"state": "finished" if step == total else "unknown", "step": step, "total": total}

    def values(self, name: str) -> list[tuple[int, float | None]]:
        """Give a number's course: (step, value), None where it was not a number."""
        return [(row["step"], row[name]) for row in self.metrics if name in row]

    @property
    def best(self) -> tuple[str, float] | None:
        """The number that selects and its best value; None before the first evaluation."""
        told, name = self.state.get("best"), self.state.get("best_name")
        if isinstance(told, int | float) and name is not None:
            return str(name), float(told)
        selected = _json(self.folder / "validation-best.json").get("selected_by")
        name = str(selected or "loss")
        found = [value for _, value in self.values(f"validation/{name}") if value is not None]
        if not found:
            return None
        # Earlier versions select by the least loss, or by what their file names.
        return name, max(found) if selected else min(found)

    @property
    def loss(self) -> float | None:
        """The last loss in its metrics."""
        found = [value for _, value in self.values("train/loss") if value is not None]
        return found[-1] if found else None


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Find the run folders (config.yaml and run.json) in and below `folders`, by path.

    Raises:
        UserError: a folder does not exist, or none holds a run.
    """
    found: dict[Path, Run] = {}
    for top in folders:
        if not top.is_dir():
            raise UserError(f"no folder {top}", "name a folder of runs, e.g. ffreid runs runs")
        for folder in _run_folders(top):
            below = folder.relative_to(top)
            name = folder.resolve().name if folder == top else str(below)
            found.setdefault(folder.resolve(), Run(folder, name))
    if not found:
        raise UserError(
            f"no run in {', '.join(map(str, folders))}",
            "name a folder that ffreid train wrote to (--output FOLDER), or one above it",
        )
    runs = sorted(found.values(), key=lambda run: str(run.folder))
    return _told_apart(runs)


def list_runs(folders: Sequence[Path], *, json_file: Path | None) -> Rows:
    """Print a table of the runs in and below `folders`, with the settings that differ.

    Args:
        folders: to search.
        json_file: write the rows there too, with all settings that differ.

    Returns:
        A row a run, as plain data.

    Raises:
        UserError: no run is found, or the file cannot be written.
    """
    runs = find_runs(folders)
    if json_file is not None:
        atomic.check_writable(json_file)
    keys = differing_keys([run.settings for run in runs])
    rows = [_described(run, keys) for run in runs]
    shown = keys[:_COLUMNS]
    columns = ["run", "data set", "state", "step", "best", "metric", "loss", "started", *shown]
    report.show_table("runs", columns, [_cells(row, shown) for row in rows], digits=4)
    if more := keys[_COLUMNS:]:
        report.log(f"note: {len(more)} more settings differ: {', '.join(more)}")
    if json_file is not None:
        atomic.write_json(json_file, {"runs": rows})
    return rows


def differing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the settings that differ between runs that have them.

    First those that differ between runs of one data set: data sets differ by their recipes.
    """
    names = dict.fromkeys(name for one in settings for name in one if name not in _IGNORED)
    differing = [name for name in names if len(_values(settings, name)) > 1]
    sets = _values(settings, "DATASET")

    def within(name: str) -> int:
        of_each = [[one for one in settings if repr(one.get("DATASET")) == which] for which in sets]
        return max((len(_values(some, name)) for some in of_each), default=0)

    return sorted(differing, key=lambda name: -within(name))


def _values(settings: Sequence[Mapping[str, Any]], name: str) -> set[str]:
    return {repr(one[name]) for one in settings if name in one}


def _described(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    state, best = run.state, run.best
    return {
        "run": run.name,
        "folder": run.folder,
        "dataset": run.settings.get("DATASET"),
        "state": state.get("state", "unknown"),
        "step": state.get("step"),
        "total": state.get("total"),
        "best": best[1] if best else None,
        "metric": best[0] if best else None,
        "loss": run.loss,
        "started": run.start.get("started"),
        "settings": {key: run.settings[key] for key in keys if key in run.settings},
    }


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list[report.Cell]:
    total = "" if row["total"] is None else f"/{row['total']}"
    started = str(row["started"] or "-")[:16].replace("T", " ")
    return [
        row["run"],
        row["dataset"],
        row["state"],
        f"{row['step']}{total}",
        row["best"],
        row["metric"],
        row["loss"],
        started,
        *(_short(row["settings"][key]) if key in row["settings"] else None for key in keys),
    ]


def _short(value: Any) -> str:
    """A setting in few characters: of a long one the end, which tells paths apart."""
    text = str(value)
    return text if len(text) <= _WIDTH else f"…{text[1 - _WIDTH :]}"


def _told_apart(runs: list[Run]) -> list[Run]:
    """Give runs of the same name below several folders their whole paths."""
    names = [run.name for run in runs]
    return [Run(run.folder, str(run.folder)) if names.count(run.name) > 1 else run for run in runs]


def _run_folders(top: Path) -> Iterator[Path]:
    for place, below, files in os.walk(top):
        if {"config.yaml", "run.json"} <= set(files):
            below.clear()  # what is in a run is no run
            yield Path(place)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(path) from error


def _json(path: Path) -> dict[str, Any]:
    """A file's facts; none where there is no file."""
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    return facts if isinstance(facts, dict) else {}


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path} cannot be read", "it was cut short or changed: move that run away")
