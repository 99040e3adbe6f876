"""A run resumes with the training data of before, or says what differs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ffreid.engine import fingerprint
from ffreid.engine.checkpoints import io
from ffreid.engine.fingerprint import Item
from ffreid.errors import UserError
from tests.engine.example_task import defaults, trainer


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two files."""
    between = one.with_suffix(".tmp")
    one.rename(between)
    other.rename(one)
    between.rename(other)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one more": (
        lambda data: (data / "4.png").write_bytes(b"new"),
        "new or changed: 1 (4.png); gone or changed: 0",
    ),
    "one less": (
        lambda data: (data / "1.png").unlink(),
        "new or changed: 0; gone or changed: 1",
    ),
    "other contents": (
        lambda data: (data / "2.png").write_bytes(b"longer contents"),
        "new or changed: 1 (2.png); gone or changed: 1",
    ),
    "exchanged": (
        lambda data: exchange(data / "0.png", data / "3.png"),
        "new or changed: 2 (0.png, 3.png); gone or changed: 2",
    ),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four training images, of 0 to 3 bytes."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"x" * number)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_changed_training_data_are_refused(data: Path, change: str) -> None:
    cfg, run = defaults(data), data / "run"
    trainer(cfg, run).fit(stop_at=2)
    state = io.load(run / "last.pth")
    alter, problem = CHANGES[change]
    alter(data)
    with pytest.raises(UserError) as caught:
        trainer(cfg, run, state)
    assert problem in caught.value.message
    assert "--data-changed" in caught.value.hint
    assert trainer(cfg, run, state, data_changed=True).start == 2


def test_unchanged_data_in_another_folder_are_accepted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(defaults(data), data / "run").fit(stop_at=2)
    state = io.load(data / "run" / "last.pth")
    moved = tmp_path / "moved"
    shutil.move(data, moved)
    capsys.readouterr()
    assert trainer(defaults(moved), moved / "run", state).start == 2
    assert capsys.readouterr().err == ""
    del state["data"]
    assert trainer(defaults(moved), moved / "run", state).start == 2
    assert "does not record its data" in capsys.readouterr().err


def test_contents_are_compared_on_request(data: Path) -> None:
    cfg = defaults(data, "TRAIN.FINGERPRINT", "contents")
    trainer(cfg, data / "run").fit(stop_at=2)
    state = io.load(data / "run" / "last.pth")
    (data / "2.png").write_bytes(b"yy")
    with pytest.raises(UserError, match=r"\(2\.png\)"):
        trainer(defaults(data), data / "run", state)


def test_labels_and_order_are_compared() -> None:
    items = [Item("a", (), (1,)), Item("b", (), (2,))]
    then = fingerprint.digests(items, "sizes")
    relabelled = [items[0], Item("b", (), (3,))]
    for now, problem in ((relabelled, r"\(b\)"), (items[::-1], "another order")):
        with pytest.raises(UserError, match=problem):
            fingerprint.check(then, "last.pth", now, fingerprint.digests(now, "sizes"))
