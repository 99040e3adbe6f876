"""Folders of real data that are not in the repository."""

from pathlib import Path

import pytest

from tests.golden import REPOSITORY

REALDATA = REPOSITORY.parent / "shared" / "realdata"


def real_folder(name: str) -> Path:
    """Give a folder of the real inputs; skip the test where it is absent."""
    folder = REALDATA / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
