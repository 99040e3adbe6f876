"""Synthetic steps, plans and run folders for the tests of tracking."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ffreid.engine.checkpoints.io import Saved
from ffreid.engine.task import Plan
from ffreid.engine.train_step import StepResult

PLAN = Plan(batch=8, steps_per_epoch=10, total=25, workers=0)
SAVED = Saved("last.pth", seconds=1.5, megabytes=800.0)
RATES = {"clothes": 3.5e-4, "net": 1e-3}


def record(done: int, loss: float = 0.5, **more: Any) -> StepResult:
    """A step of `PLAN` that waited a quarter of its second for data."""
    values: dict[str, Any] = {"done": done, "epoch": (done - 1) // PLAN.steps_per_epoch}
    values |= {"terms": {"loss": loss, "pair": loss / 4}, "rates": RATES, "norms": {"net": 2.0}}
    return StepResult(**values | {"waited": 0.25, "seconds": 0.75} | more)


def run_folder(
    folder: Path,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    state: Mapping[str, Any] | None = None,
) -> Path:
    """Write the files of a run."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(settings)))
    (folder / "run.json").write_text(json.dumps({"started": "2026-11-22T12:11:38+0000"}))
    if rows:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state is not None:
        (folder / "state.json").write_text(json.dumps(state))
    return folder
