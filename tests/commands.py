"""Run command lines in this process, as a user does, and read the files of their runs."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ffreid.cli import main
from ffreid.engine.checkpoints import io
from tests.states import without_times


def quoted(path: Path) -> str:
    return shlex.quote(str(path))


def exit_code(command: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def mistake(capsys: pytest.CaptureFixture[str], command: str) -> tuple[str, str]:
    """Error and hint of a command line that fails with exit code 2."""
    capsys.readouterr()
    assert exit_code(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *before, error, hint = err.splitlines()
    assert not [text for text in before if text.startswith(("error: ", "hint: ", "Traceback"))]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def metrics(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without times; those with names that start with `kind`."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in without_times(rows) if any(name.startswith(kind) for name in row)]


@contextmanager
def interrupted_after(step: int) -> Iterator[None]:
    """Interrupt the run at its first checkpoint after `step`."""
    save = io.save

    def save_until(path: Path, state: Any) -> io.Saved:
        if state["step"] > step:
            raise KeyboardInterrupt
        return save(path, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "save", save_until)
        yield
