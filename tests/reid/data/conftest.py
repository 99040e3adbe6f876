"""Small data sets on disk that several tests read."""

from pathlib import Path

import pytest

from ffreid.reid.data.records import Record
from tests.reid.data.synthetic_records import write_pictures, write_tracklets


@pytest.fixture
def pictures(tmp_path: Path) -> list[Record]:
    return write_pictures(tmp_path)


@pytest.fixture
def tracklets(tmp_path: Path) -> list[Record]:
    return write_tracklets(tmp_path)
