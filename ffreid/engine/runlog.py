"""The run folder: configuration, how it was started, one line of metrics after the other."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid.errors import UserError
from ffreid.report import plain


def open_folder(folder: Path, hint: str = "choose another with --output FOLDER") -> Path:
    """Make `folder` and prove that it can be written.

    Raises:
        UserError: it cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}", hint) from error
    return folder


def provenance(seed: int, processes: int, device: str) -> dict[str, Any]:
    """Say how a result came about: versions, git state, command, seed, processes, device."""
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("ffreid", "torch", "numpy", "scipy")},
        "git": _git_state(),
        "seed": seed,
        "processes": processes,
        "device": device,
    }


def write_start(folder: Path, cfg: CfgNode, facts: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` and ``run.json``."""
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "run.json").write_text(json.dumps(plain(facts), indent=1) + "\n")


def append_metrics(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one line to ``metrics.jsonl``."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(plain(row)) + "\n")


def append_line(folder: Path, line: str) -> None:
    """Append one line for people to ``log_train.log``."""
    with (folder / "log_train.log").open("a") as file:
        file.write(line + "\n")


def keep_lines(folder: Path, count: int) -> None:
    """Keep the first `count` lines of ``log_train.log``; a resumed run writes the others anew."""
    path = folder / "log_train.log"
    if path.is_file():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def drop_metrics_from(folder: Path, step: int) -> None:
    """Forget lines after `step`, which a resumed run writes anew, and one that was cut short."""
    path = folder / "metrics.jsonl"
    if path.is_file():
        whole = [line for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit of the checkout that runs and whether it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(here, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
