"""Small datasets on disk."""

from pathlib import Path

import pytest

from tests.reid.data.synthetic_records import Records, write_images, write_tracklets


@pytest.fixture
def images(tmp_path: Path) -> Records:
    return write_images(tmp_path)


@pytest.fixture
def tracklets(tmp_path: Path) -> Records:
    return write_tracklets(tmp_path)
