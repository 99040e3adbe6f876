"""The run folder: configuration, provenance, metrics and log.

Functions that read or write files raise a UserError if they cannot.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid.atomic import check_writable, to_json_data
from ffreid.engine.tracking import run_state
from ffreid.engine.tracking.run_state import now, rewrite, write_errors
from ffreid.errors import UserError
from ffreid.files import regular


def create_folder(folder: Path, hint: str = "use another folder with --output FOLDER") -> Path:
    """Create `folder` and check that it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}", hint) from error
    return folder


def prepare_results(folder: Path, items: str, *, pictures: bool) -> None:
    """Create the folder of an evaluation and check that its results can be written.

    `items` is the file of the single results, beside ``results.json``.
    """
    create_folder(folder)
    for name in ("results.json", items):
        check_writable(folder / name, stream=False, magic=b"")
    if pictures:
        create_folder(folder / "pictures")


RUN_FILES = (
    "*.pth",
    "config.yaml",
    "run.json",
    "state.json",
    "metrics.jsonl",
    "log_train.log",
    "validation-*.json",
)
RESULT_FILES = ("best*.pth", "validation-*.json")


def check_no_run(folder: Path, *, is_restart: bool) -> None:
    """Refuse to train from scratch in a folder that holds a run.

    With `is_restart` (there is no checkpoint to resume from) a run that was interrupted before it
    had any result is replaced.
    """
    state = run_state.read(folder) or {}
    patterns = RESULT_FILES if is_restart and state.get("state") != "finished" else RUN_FILES
    files = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    if not files:
        return
    if is_restart:
        raise UserError(
            f"{folder} contains {files[0]} of a run but no checkpoint to resume from",
            "restore its last.pth, or start another run with --tag NAME",
        )
    raise UserError(
        f"{folder} already contains a run ({files[0]})",
        "resume it with --resume auto, or start another with --tag NAME",
    )


def provenance(seed: int, processes: int, device: str) -> dict[str, Any]:
    """Return versions, git state, command, seed, processes and device, as a result's origin."""
    return {
        "command": sys.argv,
        "started": now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: installed(name) for name in ("ffreid", "torch", "numpy", "scipy")},
        "git": _git_state(),
        "seed": seed,
        "processes": processes,
        "device": device,
    }


def installed(name: str) -> str | None:
    """Return a package's version; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Return the commit of this package's checkout and whether it was changed; None without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return run.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_start(folder: Path, cfg: CfgNode, facts: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` and ``run.json`` atomically; check that the logs are files, if any."""
    for name in ("metrics.jsonl", "log_train.log"):
        with write_errors(folder / name), suppress(FileNotFoundError):
            regular(folder / name)
    rewrite(folder / "config.yaml", cfg.dump())
    rewrite(folder / "run.json", json.dumps(to_json_data(facts), indent=1) + "\n")


def append_metrics(folder: Path, row: Mapping[str, Any]) -> None:
    """Append a row to ``metrics.jsonl``."""
    append_line(folder, json.dumps(to_json_data(row)), name="metrics.jsonl")


def append_line(folder: Path, line: str, *, name: str = "log_train.log") -> None:
    """Append a line to ``log_train.log``."""
    with write_errors(folder / name), (folder / name).open("ab") as file:
        file.write(f"{line}\n".encode())


def truncate_log(folder: Path, count: int) -> None:
    """Keep the first `count` complete lines of ``log_train.log``; a resumed run writes the rest."""
    _filter(folder / "log_train.log", lambda lines: lines[:count])


def truncate_metrics(folder: Path, step: int, *, evaluation_pending: bool = False) -> None:
    """Remove rows after `step`, which a resumed run writes again, and incomplete ones.

    With `evaluation_pending`, training resumes with the evaluation after that step, and rows of
    an interrupted one are removed too.
    """

    def is_kept(line: bytes) -> bool:
        try:
            row = json.loads(line)
        except ValueError:
            return False
        if not isinstance(row, dict) or not isinstance(row.get("step"), int | float):
            return False
        if row["step"] == step and evaluation_pending:
            return any(name.startswith("train/") for name in row)
        return bool(row["step"] <= step)

    _filter(folder / "metrics.jsonl", lambda lines: list(filter(is_kept, lines)))


def _filter(path: Path, select: Callable[[list[bytes]], list[bytes]]) -> None:
    """Rewrite a file with some of its lines; a last one without a line end is dropped."""
    if path.is_file():
        with write_errors(path):
            lines = path.read_bytes().splitlines(keepends=True)
        rewrite(path, b"".join(select([line for line in lines if line.endswith(b"\n")])))
