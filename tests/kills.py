"""Kill training at random moments and resume it: ``python -m tests.kills --count 20``.

For developers. Half of the kills come at any moment of a run, half while a checkpoint is written.
After each kill the run is resumed with ``--resume auto``; a run that reaches its end must have the
same state as an uninterrupted run, bitwise.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

DATASETS = ("toy-pose", "toy-reid")
SAVES = "TRAIN.SAVE_EVERY 1 TRAIN.KEEP_EVERY 1 TRAIN.EMA 0.9"
PER_RUN = ("config", "seconds", "waited")
"""Entries of a checkpoint that differ between two runs of the same settings."""


class Failure(Exception):
    """A killed run could not be resumed, or its result differs."""


@dataclass
class Tally:
    """Results of the kills."""

    kills: list[int] = field(default_factory=lambda: [0, 0])
    """At any moment, and while saving."""
    parts: int = 0
    """Kills that left an incomplete file."""
    steps: list[int] = field(default_factory=list)
    """From which runs were resumed; 0 is the start."""
    finished: int = 0
    """Runs that reached their end after at least one kill."""


def kill_often(train: Callable[[str], None], root: Path, *, count: int, seed: int = 0) -> Tally:
    """Kill runs `count` times, and resume each after every kill.

    In a fork, ``train(NAME)`` trains or resumes the run ``root/NAME``.

    Raises:
        Failure: a run ended with an error, or its result differs from that of ``root/full``.
    """
    draw, tally = random.Random(seed), Tally()
    started = time.monotonic()
    run(train, root / "full", lambda: False)
    duration = time.monotonic() - started
    while sum(tally.kills) < count:
        folder, killed = root / f"killed-{tally.finished + 1}", False
        while sum(tally.kills) < count:
            kind = sum(tally.kills) % 2
            aim = while_saving(folder, draw) if kind else at_any_moment(draw, duration)
            if not run(train, folder, aim):
                break
            killed = True
            tally.kills[kind] += 1
            tally.parts += bool(parts(folder))
            tally.steps.append(saved_step(folder))
        run(train, folder, lambda: False)
        check_same(folder, root / "full")
        tally.finished += killed
        shutil.rmtree(folder)
    return tally


def at_any_moment(draw: random.Random, duration: float) -> Callable[[], bool]:
    """Whether a random moment within `duration` seconds from now has come."""
    at = time.monotonic() + draw.uniform(0, duration)
    return lambda: time.monotonic() >= at


def while_saving(folder: Path, draw: random.Random) -> Callable[[], bool]:
    """Whether it is a random moment at which `folder` holds an incomplete checkpoint."""
    left, before = draw.randint(1, 4), parts(folder)  # of an earlier kill
    at: float | None = None

    def is_reached() -> bool:
        nonlocal left, before, at
        now = parts(folder)
        new, before = now - before, now
        if at is None and new:
            left -= 1
            at = time.monotonic() + 10 ** draw.uniform(-4, 0) if left <= 0 else None
        elif not now:  # written faster: wait for the next one
            at = None
        return at is not None and bool(now) and time.monotonic() >= at

    return is_reached


def run(train: Callable[[str], None], folder: Path, should_kill: Callable[[], bool]) -> bool:
    """Train in a fork, with torch imported already, or kill it with all of its processes.

    Returns whether it was killed; Failure if it ended with an error.
    """
    log = folder.with_suffix(".log")
    pid = os.fork()
    if not pid:
        _train_and_exit(lambda: train(folder.name), log)
    killed = False
    try:
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if should_kill():
                killed = True
                kill(pid)
                ended = os.waitpid(pid, 0)
                break
            time.sleep(0.0005)
    except BaseException:
        kill(pid)
        raise
    code = os.waitstatus_to_exitcode(ended[1])
    if killed and code == -signal.SIGKILL:
        return True
    if code:
        raise Failure(f"a run ended with exit code {code}:\n{log.read_text()[-3000:]}")
    return False


def kill(pid: int) -> None:
    """Kill the process and its group; just after the fork there is no group yet."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def _train_and_exit(work: Callable[[], None], log: Path) -> None:
    code = 1
    try:
        begin_session(log)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def begin_session(log: Path) -> None:
    """Start a new session, as a terminal does, and print to a file."""
    os.setsid()
    file = log.open("w", buffering=1)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file


def parts(folder: Path) -> set[str]:
    """Incomplete checkpoints in the folder."""
    return {path.name for path in folder.glob(".ffreid-*.pth.part")}


def saved_step(folder: Path) -> int:
    """Step of the latest valid checkpoint; 0 if there is none."""
    from ffreid.engine.checkpoints.manager import latest_valid

    latest = latest_valid(folder)
    return latest[1]["step"] if latest else 0


def check_same(folder: Path, reference: Path) -> None:
    """Compare the checkpoints and metrics of a run with those of an uninterrupted one.

    Raises:
        Failure: they differ.
    """
    from ffreid.engine.checkpoints import io
    from tests.states import differences

    folders = (folder, reference)
    files, expected = (sorted(path.name for path in each.iterdir()) for each in folders)
    if files != expected:
        raise Failure(f"{folder} contains {files}, not {expected}")
    for name in [name for name in files if name.endswith(".pth")]:
        paths = differences(io.load(folder / name), io.load(reference / name))
        if different := [path for path in paths if path.rpartition("/")[2] not in PER_RUN]:
            raise Failure(f"{folder / name} differs in {len(different)} values: {different[:5]}")
    rows, expected_rows = metrics(folder), metrics(reference)
    if rows != expected_rows:
        raise Failure(f"{folder}/metrics.jsonl has {rows}, not {expected_rows}")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Training and validation results in metrics.jsonl, without times."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    prefixes = ("train/", "validation/", "validation-ema/")
    results = [{key: row[key] for key in row if key.startswith(prefixes)} for row in rows]
    return [
        {"step": row["step"]} | values for row, values in zip(rows, results, strict=True) if values
    ]


def command(dataset: str, folder: Path, tag: str) -> str:
    """Command line that trains or resumes a run on the toy data in ``folder/toy``."""
    from tests.pose.test_runs import SETTINGS as POSE
    from tests.reid.command_line import SETTINGS as REID

    settings = {
        "toy-pose": f"{POSE} DATA.WORKERS 1 TRAIN.STEPS 6 TRAIN.EVAL_POSES false",
        "toy-reid": f"{REID} DATA.NUM_WORKERS 1 TRAIN.MAX_EPOCH 3",
    }[dataset]
    flags = f"--dataset {dataset} --root {shlex.quote(str(folder / 'toy'))}"
    flags += f" --output {shlex.quote(str(folder))} --tag {tag} --resume auto"
    return f"train {flags} {settings} {SAVES}"


def make_data(dataset: str, folder: Path) -> None:
    """Generate the toy data in ``folder/toy``."""
    from tests.makers import toy_folder
    from tests.pose.test_runs import FRAMES, HEIGHT, TEST_FRAMES, WIDTH
    from tests.reid.command_line import make_toy_data

    if dataset == "toy-reid":
        make_toy_data(folder / "toy")
        return
    sizes = {"frames": FRAMES, "test_frames": TEST_FRAMES, "height": HEIGHT, "width": WIDTH}
    toy_folder(folder, synthetic=0, **sizes)


def kill_training(dataset: str, folder: Path, *, count: int, seed: int) -> Tally:
    """Kill runs of a toy dataset that are started through the command line."""
    from ffreid.cli import main as ffreid

    (folder / dataset).mkdir(parents=True)
    # In a fork: the threads that it starts must not exist in this process, which forks others.
    run(lambda _: make_data(dataset, folder), folder / "data", lambda: False)
    return kill_often(
        lambda name: ffreid(shlex.split(command(dataset, folder, name))),
        folder / dataset,
        count=count,
        seed=seed,
    )


def main() -> int:
    """Kill runs and print a table; return 1 at the first failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="kills per dataset")
    parser.add_argument("--dataset", choices=DATASETS, action="append", help="default: both")
    parser.add_argument("--tiny", action="store_true", help="toy-reid: use a tiny network")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    # Before torch is imported: threads do not survive a fork, and waiting for them hangs.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # Import what a run needs once for all forks: an optimizer alone takes 2 s.
    tasks = [name.removeprefix("toy-") for name in options.dataset or DATASETS]
    needed = [f"ffreid.{task}.{module}" for task in tasks for module in ("build", "validation")]
    for name in ("torch._dynamo", "ffreid.runner", *needed):
        import_module(name)
    from ffreid import report
    from ffreid.reid import model
    from tests.reid.command_line import Tiny

    if options.tiny:
        model.NETWORKS["resnet50"] = cast(Any, Tiny)
    rows: list[list[Any]] = []
    for dataset in options.dataset or DATASETS:
        with TemporaryDirectory(prefix="kills-") as folder:
            try:
                tally = kill_training(
                    dataset, Path(folder) / "runs", count=options.count, seed=options.seed
                )
            except Failure as failure:
                report.log(f"error: {dataset}: {failure}")
                return 1
        steps = ", ".join(map(str, sorted(tally.steps)))
        rows.append([dataset, *tally.kills, tally.parts, tally.finished, steps])
    columns = ["dataset", "any moment", "saving", "left a .part", "finished", "resumed from"]
    report.show_table("survived kills", columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
