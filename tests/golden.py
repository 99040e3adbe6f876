"""The numbers recorded from the originals: their folder and files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("FFREID_GOLDEN") or REPOSITORY.parent / "shared" / "golden")
SPLIT = os.environ.get("FFREID_GOLDEN_SPLIT") or "public"
ABSENT = f"no recorded numbers at {GOLDEN} (set FFREID_GOLDEN)"


def recordings(system: str, pattern: str) -> list[Any]:
    """Stems of the split's files that match `pattern`, as parameters; skipped if absent.

    Asserts that an existing folder holds at least one: a test never passes on nothing.
    """
    folder = GOLDEN / system
    if not folder.is_dir():
        return [pytest.param("", marks=pytest.mark.skip(reason=ABSENT))]
    stems = sorted({path.stem for path in (folder / SPLIT).glob(pattern)})
    assert stems, f"no {pattern} in {folder / SPLIT}"
    return stems


def cases(system: str, pattern: str) -> list[Any]:
    """(stem, case) of all cases in these files; one that is skipped without recordings."""
    stems = recordings(system, pattern)
    if not isinstance(stems[0], str):
        return [pytest.param("", "", marks=stems[0].marks)]
    return [(stem, case) for stem in stems for case in sorted(facts(system, stem))]


def arrays(system: str, stem: str) -> dict[str, npt.NDArray[Any]]:
    """All arrays of ``<split>/<stem>.npz``."""
    with np.load(_existing(GOLDEN / system / SPLIT / f"{stem}.npz")) as file:
        return {key: file[key] for key in file.files}


def facts(system: str, stem: str) -> Any:
    """The parsed ``<split>/<stem>.json``."""
    return json.loads(_existing(GOLDEN / system / SPLIT / f"{stem}.json").read_text())


def manifest(system: str, name: str) -> Any:
    """A parsed JSON file that all splits share, e.g. ``constants.json``."""
    return json.loads(_existing(GOLDEN / system / name).read_text())


def _existing(path: Path) -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(ABSENT)
    assert path.is_file(), f"no {path}"
    return path
