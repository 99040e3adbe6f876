"""Kill training at random moments and go on: ``python -m tests.kills --count 20``.

For developers: each kill costs the start of a run. Half of the kills come at any moment of a run's
life, half while a checkpoint is written. After each the run goes on with ``--resume auto``; one
that reaches its end must have come to the state of a run that was never killed, bit by bit.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

DATASETS = ("toy-pose", "toy-reid")
KEPT = "TRAIN.SAVE_EVERY 1 TRAIN.KEEP_EVERY 1 TRAIN.EMA 0.9"
OWN = ("config", "seconds", "waited")
"""Entries of a checkpoint in which a run of another name, at another time, differs."""

Train = Callable[[str], None]
"""Trains the run of a name, from where it stands to its end."""


class Failure(Exception):
    """A killed run could not go on, or came to something else."""


@dataclass
class Tally:
    """What came of the kills.

    Attributes:
        kills: how many there were, by kind.
        parts: kills that left a half-written file.
        steps: of the states that runs went on from; 0 is the start.
        finished: runs that reached their end after at least one kill.
    """

    kills: dict[str, int] = field(default_factory=lambda: {"any moment": 0, "saving": 0})
    parts: int = 0
    steps: list[int] = field(default_factory=list)
    finished: int = 0

    @property
    def count(self) -> int:
        return sum(self.kills.values())


def kill_often(train: Train, place: Path, *, count: int, seed: int = 0) -> Tally:
    """Kill runs `count` times, each going on from where the one before was killed.

    Args:
        train: trains the run of a name, in ``place/NAME``; every process of it is forked from here.
        place: a folder.
        count: kills in all.
        seed: of the moments.

    Raises:
        Failure: a run ended with an error, or in another state than one never killed.
    """
    draw, tally = random.Random(seed), Tally()
    life, saving = _measured(train, place)
    number = 0
    while tally.count < count:
        number += 1
        name, killed = f"killed-{number}", False
        while tally.count < count:
            kind = "saving" if tally.count % 2 else "any moment"
            aim = Saving(place / name, draw, saving) if tally.count % 2 else Capture(draw, life)
            if not _killed(lambda name=name: train(name), place / name, aim):  # type: ignore[misc]
                break
            killed = True
            tally.kills[kind] += 1
            tally.parts += bool(_parts(place / name))
            tally.steps.append(_step(place / name))
        _killed(lambda name=name: train(name), place / name, None)  # type: ignore[misc]
        check_same(place / name, place / "whole")
        tally.finished += killed
        shutil.rmtree(place / name)
    return tally


class Capture:
    """Any moment of a life of `life` seconds."""

    def __init__(self, draw: random.Random, life: float) -> None:
        self.at = time.monotonic() + draw.uniform(0, life)

    def reached(self) -> bool:
        return time.monotonic() >= self.at


class Saving:
    """A moment while `folder` has a half-written checkpoint, as for up to `saving` seconds."""

    def __init__(self, folder: Path, draw: random.Random, saving: float) -> None:
        self.folder, self.draw, self.saving = folder, draw, saving
        self.left = draw.randint(1, 4)
        self.seen = _parts(folder)  # of the run before
        self.at: float | None = None

    def reached(self) -> bool:
        seen, before = _parts(self.folder), self.seen
        self.seen = seen
        if self.at is not None:
            if seen and time.monotonic() >= self.at:
                return True
            if not seen:  # written sooner: the next one
                self.at = None
        elif seen - before:
            self.left -= 1
            if self.left <= 0:
                self.at = time.monotonic() + self.draw.uniform(0, self.saving)
        return False


def _measured(train: Train, place: Path) -> tuple[float, float]:
    """Train the run ``whole``, never killed; give its seconds and those of its longest save."""
    started, longest = time.monotonic(), 0.0
    pid = _forked(lambda: train("whole"), place / "whole.log")
    since: float | None = None
    with _killed_on_errors(pid):
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            parts = _parts(place / "whole")
            since = (since or time.monotonic()) if parts else None
            longest = max(longest, time.monotonic() - since if since else 0.0)
            time.sleep(0.001)
    _check_end(ended[1], place / "whole.log")
    return time.monotonic() - started, longest


def _killed(work: Callable[[], None], folder: Path, aim: Capture | Saving | None) -> bool:
    """Start a process and kill it with all that it started; False if it came to its end before."""
    log = folder.with_suffix(".log")
    pid = _forked(work, log)
    with _killed_on_errors(pid):
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if aim is not None and aim.reached():
                _kill(pid)
                ended = os.waitpid(pid, 0)
                break
            time.sleep(0.0005)
    if os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) == signal.SIGKILL and aim is not None:
        return True
    _check_end(ended[1], log)
    return False


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it is no group of its own yet
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


@contextmanager
def _killed_on_errors(pid: int) -> Iterator[None]:
    """Leave no process behind where this one is interrupted."""
    try:
        yield
    except BaseException:
        _kill(pid)
        raise


def _forked(work: Callable[[], None], log: Path) -> int:
    """Call `work` in a process group of its own: torch is imported already, which takes seconds."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _check_end(status: int, log: Path) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise Failure(f"a run ended with {code}:\n{log.read_text()[-3000:]}")


def _parts(folder: Path) -> set[str]:
    """Half-written checkpoints there."""
    try:
        return {name for name in os.listdir(folder) if name.endswith(".pth.part")}  # noqa: PTH208
    except FileNotFoundError:
        return set()


def _step(folder: Path) -> int:
    """Step of the newest sound state; 0 where there is none yet."""
    from ffreid.engine.checkpoints.manager import latest_valid

    found = latest_valid(folder)
    return found[1]["step"] if found else 0


def check_same(folder: Path, whole: Path) -> None:
    """Compare every checkpoint and the metrics of a run with those of one never killed.

    Raises:
        Failure: they differ.
    """
    from ffreid.engine.checkpoints import io
    from tests.states import differences

    files = [sorted(path.name for path in place.iterdir()) for place in (folder, whole)]
    if files[0] != files[1]:
        raise Failure(f"{folder} holds {files[0]}, not {files[1]}")
    for name in [name for name in files[0] if name.endswith(".pth")]:
        one, other = (io.load(place / name) for place in (folder, whole))
        paths = differences(one, other)
        if found := [path for path in paths if path.rpartition("/")[2] not in OWN]:
            raise Failure(f"{folder / name} differs in {len(found)} values: {found[:5]}")
    rows = [metrics(place) for place in (folder, whole)]
    if rows[0] != rows[1]:
        raise Failure(f"{folder}/metrics.jsonl has {rows[0]}, not {rows[1]}")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl by what was trained and validated, without times."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = ("train/", "validation/", "validation-ema/")
    named = [(row["step"], {key: row[key] for key in row if key.startswith(kept)}) for row in rows]
    return [{"step": step} | values for step, values in named if values]


def command(dataset: str, place: Path, tag: str) -> str:
    """The command line that trains, and goes on by itself."""
    from tests.pose.test_runs import SETTINGS as POSE
    from tests.reid.command_line import SETTINGS as REID

    settings = {
        "toy-pose": f"{POSE} DATA.WORKERS 1 TRAIN.STEPS 6 TRAIN.EVAL_POSES false",
        "toy-reid": f"{REID} DATA.NUM_WORKERS 1 TRAIN.MAX_EPOCH 3",
    }[dataset]
    flags = f"--dataset {dataset} --root {shlex.quote(str(place / 'toy'))}"
    flags += f" --output {shlex.quote(str(place))} --tag {tag} --resume auto"
    return f"train {flags} {settings} {KEPT}"


def draw_data(dataset: str, place: Path) -> None:
    """Draw the toy data in ``place/toy``."""
    from tests.makers import toy_folder
    from tests.pose.test_runs import FRAMES, HEIGHT, TEST_FRAMES, WIDTH
    from tests.reid.command_line import make_toy_data

    if dataset == "toy-reid":
        make_toy_data(place / "toy")
        return
    sizes = {"frames": FRAMES, "test_frames": TEST_FRAMES, "height": HEIGHT, "width": WIDTH}
    toy_folder(place, synthetic=0, **sizes)


def kill_training(dataset: str, place: Path, *, count: int, seed: int) -> Tally:
    """Kill runs of a toy data set through the command line."""
    from ffreid.cli import main as ffreid

    place.mkdir(parents=True)
    log = place / "data.log"
    # In a process of its own: what it starts threads for must not be forked.
    _check_end(os.waitpid(_forked(lambda: draw_data(dataset, place), log), 0)[1], log)
    (place / dataset).mkdir()
    return kill_often(
        lambda name: ffreid(shlex.split(command(dataset, place, name))),
        place / dataset,
        count=count,
        seed=seed,
    )


def main() -> int:
    """Kill and tell; 1 at the first failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="kills of each data set's runs")
    parser.add_argument("--dataset", choices=DATASETS, action="append", help="both by default")
    parser.add_argument("--tiny", action="store_true", help="reid: a tiny network in its place")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    # Before torch is imported: threads do not survive a fork, and what waits for them hangs.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # And all that a run imports, once for all of them: an optimiser alone takes 2 s for that.
    for name in ("torch._dynamo", "ffreid.runner", "ffreid.pose.build", "ffreid.pose.validation"):
        import_module(name)
    for name in ("ffreid.reid.build", "ffreid.reid.validation"):
        import_module(name)
    from ffreid import report
    from ffreid.reid import model
    from tests.reid.command_line import Tiny

    if given.tiny:
        model.NETWORKS["resnet50"] = cast(Any, Tiny)

    rows: list[list[Any]] = []
    for dataset in given.dataset or DATASETS:
        with TemporaryDirectory(prefix="kills-") as folder:
            try:
                tally = kill_training(
                    dataset, Path(folder) / "runs", count=given.count, seed=given.seed
                )
            except Failure as failure:
                report.log(f"error: {dataset}: {failure}")
                return 1
        gone_on = ", ".join(map(str, sorted(tally.steps)))
        rows.append([dataset, *tally.kills.values(), tally.parts, tally.finished, gone_on])
    columns = ["data set", "any moment", "saving", "left a .part", "finished", "went on from"]
    report.show_table("kills that were survived", columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
