"""The run folder: configuration, how it was started, one line of metrics after the other."""

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import report
from ffreid.atomic import atomic_write, plain
from ffreid.engine import precision
from ffreid.engine.distributed.group import World
from ffreid.engine.task import Plan
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError


def create_folder(folder: Path, hint: str = "choose another with --output FOLDER") -> Path:
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
    """Write ``config.yaml`` and ``run.json``.

    Raises:
        UserError: they cannot be written; what they held stays.
    """
    _rewrite(folder / "config.yaml", cfg.dump().encode())
    _rewrite(folder / "run.json", (json.dumps(plain(facts), indent=1) + "\n").encode())


def append_metrics(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one line to ``metrics.jsonl``.

    Raises:
        UserError: it cannot be written.
    """
    _append(folder / "metrics.jsonl", json.dumps(plain(row)))


def append_line(folder: Path, line: str) -> None:
    """Append one line for people to ``log_train.log``.

    Raises:
        UserError: it cannot be written.
    """
    _append(folder / "log_train.log", line)


def truncate_log(folder: Path, count: int) -> None:
    """Keep the first `count` whole lines of ``log_train.log``; a resumed run writes the others.

    Raises:
        UserError: it cannot be read or written.
    """
    _filter(folder / "log_train.log", lambda lines: lines[:count])


def truncate_metrics(folder: Path, step: int, *, evaluation_pending: bool = False) -> None:
    """Forget lines after `step`, which a resumed run writes anew, and any that a kill cut short.

    Args:
        folder: the run's.
        step: where the run goes on.
        owed: it begins with the evaluation after that step: what an interrupted one left goes too.

    Raises:
        UserError: the file cannot be read or written.
    """

    def stays(line: bytes) -> bool:
        row = _row(line)
        if row["step"] == step and evaluation_pending:
            return any(name.startswith("train/") for name in row)
        return bool(row["step"] <= step)

    _filter(folder / "metrics.jsonl", lambda lines: [line for line in lines if stays(line)])


def _row(line: bytes) -> dict[str, Any]:
    """A row; of what is none, one of a step that is never done."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("step"), int | float):
        return {"step": math.inf}
    return found


def _filter(path: Path, choose: Callable[[list[bytes]], list[bytes]]) -> None:
    """Rewrite a file with some of its lines; the last is none if it has no end."""
    if not path.is_file():
        return
    with _writing(path):
        content = path.read_bytes()
    lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    _rewrite(path, b"".join(choose(lines)))


def _rewrite(path: Path, content: bytes) -> None:
    with _writing(path), atomic_write(path) as file:
        file.write(content)


def _append(path: Path, line: str) -> None:
    with _writing(path), path.open("ab") as file:
        file.write(f"{line}\n".encode())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}",
            "free some space or bring the folder back, then go on with --resume auto; "
            "checkpoints are intact",
        ) from error


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
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def start_run(
    cfg: CfgNode,
    world: World,
    plan: Plan,
    folder: Path,
    *,
    summary: str,
    notes: Sequence[str],
    start: int,
    evaluation_pending: bool,
    lines: int,
) -> None:
    """Write the run's settings and origin, cut its logs to where it goes on, and introduce it.

    Args:
        cfg: configuration.
        world: this process among those that share the work; only the first calls.
        plan: how long training is.
        folder: of the run.
        summary: of the data.
        notes: the task's, a line each.
        start: steps done before.
        owed: whether the evaluation after them is still to come.
        lines: how many of log_train.log are from before.

    Raises:
        UserError: a file cannot be written.
    """
    facts = run_folder.provenance(cfg.SEED, world.size, str(world.device))
    facts |= {"data": summary, "resumed_at": start or None}
    run_folder.write_start(folder, cfg, facts)
    run_folder.truncate_metrics(folder, start, evaluation_pending=evaluation_pending)
    run_folder.truncate_log(folder, lines)
    report.log(
        f"training {cfg.DATASET}: {plan.total} steps of {plan.batch} samples, "
        f"{plan.steps_per_epoch} an epoch, "
        f"{world.size} process{'es' if world.size > 1 else ''} on {world.device.type}, "
        f"in {folder}"
    )
    report.log(f"data: {summary}")
    for line in (*_common_notes(cfg, world), *notes):
        report.log(f"note: {line}")


def _common_notes(cfg: CfgNode, world: World) -> Iterator[str]:
    """What of the settings is worth a word, whatever the task."""
    train = cfg.TRAIN
    if half := precision.autocast_dtype(cfg, world.device):
        yield f"networks compute in {str(half).removeprefix('torch.')}"
    if train.ACCUMULATE > 1:
        yield (
            f"each process takes its samples of a step in {train.ACCUMULATE} parts, and batch "
            "norm sees one part at a time"
        )
    if train.OVERFIT:
        yield f"training on {train.OVERFIT} samples, always the same"
