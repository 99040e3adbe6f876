"""Which checkpoints a run keeps, and which one it resumes from."""

import errno
import os
import re
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.manager import CheckpointManager, epochs, latest_valid
from ffreid.engine.tracking import run_folder, run_lock
from ffreid.errors import UserError
from tests.kills import Failure, check_same, kill_often


def state(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(1000, generator=generator)
    texts = {"task": "example", "classes": [], "config": "TASK: example"}
    entries = {"best": None, "step": step, "total": 10**6, "parts": {"net": {"w": weights}}}
    return {"optimisers": {}, **texts, **entries}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def keep(folder: Path, *numbers: int, every: int = 1, count: int = 0) -> CheckpointManager:
    """Save these epochs, of ten steps each."""
    manager = CheckpointManager(folder, every=every, keep=count)
    for number in numbers:
        manager.save("last.pth", state(10 * number), epoch=number)
    return manager


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def latest(folder: Path, log: Callable[[str], None] = print) -> tuple[str, int]:
    """The name and step of a run's latest valid state."""
    checkpoint = latest_valid(folder, log)
    assert checkpoint is not None
    return checkpoint[0].name, checkpoint[1]["step"]


def test_a_save_is_timed(tmp_path: Path) -> None:
    (tmp_path / "epoch-0001.pth.part").write_bytes(b"a file of the user's")
    saved = CheckpointManager(tmp_path).save("last.pth", state(1))
    assert names(tmp_path) == ["epoch-0001.pth.part", saved.name]
    assert saved.megabytes == (tmp_path / "last.pth").stat().st_size / 1e6 > 0.004
    assert saved.seconds > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_save_of_another_process_is_harmless(tmp_path: Path) -> None:
    CheckpointManager(tmp_path).save("last.pth", state(1))
    ready, begin = os.pipe()
    if (other := os.fork()) == 0:

        def write_half(_: Any, file: Any) -> None:
            file.write(b"PK\3\4half")
            file.flush()
            os.write(begin, b".")
            time.sleep(60)

        torch.save = write_half  # type: ignore[assignment]
        CheckpointManager(tmp_path).save("last.pth", state(3))
    os.read(ready, 1)
    CheckpointManager(tmp_path).save("last.pth", state(2))
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert io.load(tmp_path / "last.pth")["step"] == 2


def test_a_missing_folder_is_not_created_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone/last\.pth: its folder no longer exists"):
        CheckpointManager(tmp_path / "gone").save("last.pth", state(1))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("every", "count", "left"),
    [(0, 3, []), (1, 0, [1, 2, 3, 4, 5, 6]), (1, 2, [5, 6]), (2, 2, [4, 6]), (2, 9, [2, 4, 6])],
)
def test_the_newest_of_every_n_epochs_are_kept(
    tmp_path: Path, every: int, count: int, left: list[int]
) -> None:
    keep(tmp_path, *range(1, 7), every=every, count=count)
    assert names(tmp_path) == [*(f"epoch-{number:04d}.pth" for number in left), "last.pth"]
    for number in left:
        assert io.load(tmp_path / f"epoch-{number:04d}.pth")["step"] == 10 * number


@pytest.mark.parametrize("has_links", [True, False])
def test_an_epoch_takes_no_space_until_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:  # it is copied
        monkeypatch.setattr(os, "link", raising(OSError(errno.EPERM, "Operation not permitted")))
    keep(tmp_path, 1).save("last.pth", state(12), epoch=1)
    assert names(tmp_path) == ["epoch-0001.pth", "last.pth"]
    assert (tmp_path / "last.pth").samefile(tmp_path / "epoch-0001.pth") is has_links
    assert {io.load(path)["step"] for path in tmp_path.iterdir()} == {12}
    CheckpointManager(tmp_path).save("last.pth", state(13))
    assert io.load(tmp_path / "epoch-0001.pth")["step"] == 12


def test_an_epoch_killed_before_it_is_the_last_state_is_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "link", raising(KeyboardInterrupt()))
        keep(tmp_path, 2)
    assert latest(tmp_path) == ("last.pth", 10)
    keep(tmp_path, 2)
    assert names(tmp_path) == ["epoch-0001.pth", "epoch-0002.pth", "last.pth"]


@pytest.mark.parametrize(("call", "count"), [("replace", 0), ("unlink", 1)])
def test_an_epoch_that_cannot_be_kept_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, count: int
) -> None:
    keep(tmp_path, 1)
    monkeypatch.setattr(Path, call, raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UserError, match=r"epoch-000\d\.pth.*: No space left"):
        keep(tmp_path, 2, count=count)
    assert latest(tmp_path) == ("last.pth", 10)


def test_new_epochs_are_kept_after_resuming_from_an_earlier_one(tmp_path: Path) -> None:
    keep(tmp_path, 8, 9, 10)
    keep(tmp_path, 5, 6, 7, count=2)
    assert [path.name for path in epochs(tmp_path)] == [
        f"epoch-{number:04d}.pth" for number in (10, 9, 8, 7, 6)
    ]


def test_the_last_state_is_the_latest(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"no state to resume from")
    assert latest_valid(tmp_path) is latest_valid(tmp_path / "none") is None
    keep(tmp_path, 1, 2).save("last.pth", state(21))
    os.utime(tmp_path / "last.pth", (0, 0))  # as in a copy of the folder
    assert latest(tmp_path, raising(AssertionError("a note"))) == ("last.pth", 21)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def zeroed(path: Path) -> None:
    """A page of zeros in the weights, as after a power failure; torch.load accepts it."""
    content = bytearray(path.read_bytes())
    at = content.index(state(99)["parts"]["net"]["w"].numpy().tobytes()[:64])
    content[at : at + 64] = bytes(64)
    path.write_bytes(content)


def of_another_program(path: Path) -> None:
    io.save(path, {"weights": torch.zeros(3)})


DAMAGES = {
    cut: "damaged or truncated",
    zeroed: "wrong checksum of record .*/data/0",
    of_another_program: "it lacks task, step, best",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_skipped_with_a_note(tmp_path: Path, damage: Any) -> None:
    keep(tmp_path, 1, 2, 10000).save("last.pth", state(99))
    for path in (tmp_path / "last.pth", tmp_path / "epoch-10000.pth"):
        path.unlink()
        io.save(path, state(99))
        damage(path)
    messages: list[str] = []
    assert latest(tmp_path, messages.append) == ("epoch-0002.pth", 20)
    for line, name in zip(messages, ["last.pth", "epoch-10000.pth"], strict=True):
        assert re.search(rf"^note: skipped: .*/{name}: {DAMAGES[damage]}", line)


def test_a_run_with_damaged_states_only_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2)
    for path in [*tmp_path.iterdir()]:
        cut(path)
    names = r"damaged: last\.pth, epoch-0002\.pth, epoch-0001"
    with pytest.raises(UserError, match=names) as caught:
        latest_valid(tmp_path, lambda _: None)
    assert "--tag NAME" in caught.value.hint


def test_a_state_without_read_permission_is_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, 1)
    monkeypatch.setattr(zipfile, "ZipFile", raising(PermissionError(13, "Permission denied")))
    with pytest.raises(UserError, match=r"cannot read .*last\.pth: Permission denied"):
        latest_valid(tmp_path)


STEPS = 6


def train(folder: Path) -> None:
    """A run with two steps per epoch, every state a function of the previous one."""
    run_folder.create_folder(folder)
    with run_lock.lock(folder):
        train_locked(folder)


def train_locked(folder: Path) -> None:
    weights, start = torch.zeros(300_000), 0
    if (checkpoint := latest_valid(folder)) is not None:
        weights, start = checkpoint[1]["parts"]["net"]["w"], checkpoint[1]["step"]
    run_folder.truncate_metrics(folder, start)
    run_folder.truncate_log(folder, start // 2)
    manager = CheckpointManager(folder, every=1, keep=2)
    for step in range(start + 1, STEPS + 1):
        weights = weights * 0.5 + step
        run_folder.append_metrics(folder, {"step": step, "train/loss": float(weights[0])})
        if step % 2 == 0:
            run_folder.append_line(folder, f"Epoch{step // 2}")
        content = state(step) | {"parts": {"net": {"w": weights}}}
        manager.save("last.pth", content, epoch=step // 2 if step % 2 == 0 else None)


def test_a_run_killed_at_any_moment_ends_in_the_same_state(tmp_path: Path) -> None:
    tally = kill_often(lambda name: train(tmp_path / name), tmp_path, count=20)
    assert (tally.kills, len(tally.steps)) == ([10, 10], 20)
    assert tally.finished > 0 and len(set(tally.steps)) > 1


def test_a_run_with_another_end_is_detected(tmp_path: Path) -> None:
    for name in ("full", "same", "other"):
        train(tmp_path / name)
    check_same(tmp_path / "same", tmp_path / "full")
    CheckpointManager(tmp_path / "other").save("last.pth", state(STEPS))
    with pytest.raises(Failure, match=r"other/last\.pth differs in 1 values"):
        check_same(tmp_path / "other", tmp_path / "full")
    with (tmp_path / "same" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train/loss": 0.0}\n')
    with pytest.raises(Failure, match="metrics"):
        check_same(tmp_path / "same", tmp_path / "full")
