"""Runs on disk and their results, from their JSON and YAML files alone (no torch)."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ffreid import atomic, report
from ffreid.config import leaves, parse_yaml
from ffreid.engine.tracking import run_state
from ffreid.errors import UserError
from ffreid.files import regular

_IGNORED = ("OUTPUT", "TAG", "DATASET", "TASK")
"""Settings that always differ or have columns of their own."""
_MAX_COLUMNS, _MAX_CHARACTERS = 6, 18
"""Columns of settings, and characters of a value."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run folder; its `name` is relative to the searched folder, or the folder's."""

    folder: Path
    name: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its configuration, by dotted key."""
        return dict(leaves(_read(self.folder / "config.yaml", parse_yaml)))

    @cached_property
    def metrics(self) -> Rows:
        """The complete rows of metrics.jsonl."""
        rows: Rows = []
        for line in (_text(self.folder / "metrics.jsonl") or "").splitlines():
            with suppress(ValueError, RecursionError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict) and _is_count(row.get("step"))]

    @cached_property
    def state(self) -> dict[str, Any]:
        """Its status, see `run_state.read`; of earlier versions' runs from the metrics."""
        status = run_state.read(self.folder)
        if status is not None:
            return status
        step = max((row["step"] for row in self.metrics), default=0)
        total = self.settings.get("TRAIN.STEPS") or None
        return {"state": "finished" if step == total else "unknown", "step": step, "total": total}

    def values(self, name: str) -> list[tuple[int, float | None]]:
        """Return a metric's (step, value) pairs; None where it was NaN or infinite."""
        return [(row["step"], row[name]) for row in self.metrics if name in row]

    @property
    def best(self) -> tuple[str, float] | None:
        """Name and best value of the selecting metric; None before the first validation."""
        value, name = self.state.get("best"), self.state.get("best_name")
        if isinstance(value, int | float) and name is not None:
            return str(name), float(value)
        # Earlier versions select by the least loss, or by what their file names.
        selected = _read(self.folder / "validation-best.json", json.loads).get("selected_by")
        name = str(selected or "loss")
        values = [value for _, value in self.values(f"validation/{name}") if value is not None]
        return (name, max(values) if selected else min(values)) if values else None


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Find the run folders (config.yaml and run.json) in and below `folders`, sorted by path.

    Raises:
        UserError: a folder does not exist, or none holds a run.
    """
    runs: dict[Path, Run] = {}
    for top in folders:
        if not top.is_dir():
            raise UserError(f"no folder {top}", "pass a folder of runs, e.g. ffreid runs runs")
        for folder in _run_folders(top):
            name = folder.resolve().name if folder == top else str(folder.relative_to(top))
            runs.setdefault(folder.resolve(), Run(folder, name))
    if not runs:
        raise UserError(
            f"no run in {', '.join(map(str, folders))}",
            "pass a folder that ffreid train wrote to (--output FOLDER), or a parent of it",
        )
    names = Counter(run.name for run in runs.values())
    unique = [replace(r, name=str(r.folder)) if names[r.name] > 1 else r for r in runs.values()]
    return sorted(unique, key=lambda run: str(run.folder))


def list_runs(folders: Sequence[Path], *, json_file: Path | None) -> Rows:
    """Print a table of the runs in and below `folders`, with the settings that differ.

    The result, as written to `json_file`, has a row per run with all settings that differ.
    """
    runs = find_runs(folders)
    if json_file is not None:
        atomic.check_writable(json_file)
    keys = differing_keys([run.settings for run in runs])
    rows = [_row(run, keys) for run in runs]
    shown = keys[:_MAX_COLUMNS]
    columns = ["run", "dataset", "state", "step", "best", "metric", "loss", "started", *shown]
    report.show_table("runs", columns, [_cells(row, shown) for row in rows], digits=4)
    if more := keys[_MAX_COLUMNS:]:
        report.log(f"note: {len(more)} more settings differ: {', '.join(more)}")
    if json_file is not None:
        atomic.write_json(json_file, {"runs": rows})
    return rows


def differing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that differ between the runs that have them.

    First those that differ between runs of one dataset: datasets differ by their recipes.
    """

    def count(key: str, group: Sequence[Mapping[str, Any]]) -> int:
        return len({repr(one[key]) for one in group if key in one})

    datasets = {one.get("DATASET") for one in settings}
    groups = [[one for one in settings if one.get("DATASET") == name] for name in datasets]
    keys = dict.fromkeys(key for one in settings for key in one if key not in _IGNORED)
    differing = [key for key in keys if count(key, settings) > 1]
    return sorted(differing, key=lambda key: -max(count(key, group) for group in groups))


def _row(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    state, (metric, best) = run.state, run.best or (None, None)
    losses = [loss for _, loss in run.values("train/loss") if loss is not None]
    return {
        "run": run.name,
        "folder": run.folder,
        "dataset": run.settings.get("DATASET"),
        "state": state.get("state", "unknown"),
        "step": state.get("step"),
        "total": state.get("total"),
        "best": best,
        "metric": metric,
        "loss": losses[-1] if losses else None,
        "started": _read(run.folder / "run.json", json.loads).get("started"),
        "settings": {key: run.settings[key] for key in keys if key in run.settings},
    }


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list[report.Cell]:
    step = str(row["step"]) if row["total"] is None else f"{row['step']}/{row['total']}"
    started = str(row["started"] or "-")[:16].replace("T", " ")
    cells: list[report.Cell] = [row["run"], row["dataset"], row["state"], step]
    cells += [row["best"], row["metric"], row["loss"], started]
    for key in keys:
        text = str(row["settings"].get(key, "-"))
        # The end of a long value, which distinguishes paths.
        cells.append(text if len(text) <= _MAX_CHARACTERS else f"…{text[1 - _MAX_CHARACTERS :]}")
    return cells


def _run_folders(top: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(top):
        if {"config.yaml", "run.json"} <= set(files):
            subfolders.clear()  # a run folder holds no other runs
            yield Path(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Read a file's mapping; empty if there is no file."""
    if (text := _text(path)) is None:
        return {}
    try:
        content = parse(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"cannot read {path}: it is truncated or invalid", "move or delete that run"
        ) from error
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str | None:
    """Read a file's text; None if there is no file."""
    try:
        return regular(path).read_text()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"cannot read {path}: {reason}", "move or delete that run") from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and abs(value) < 2**53
