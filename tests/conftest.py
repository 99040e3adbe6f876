"""Shared fixtures, and the order of the test files where several processes share them."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LONGEST = (
    "test_same_curve.py",
    "test_resumed_anywhere.py",
    "test_restarts.py",
    "reid/test_task_golden.py",
    "pose/test_runs.py",
    "pose/test_task_golden.py",
    "reid/test_processes.py",
    "reid/test_runs.py",
    "pose/model/test_ffb6d_golden.py",
    "reid/model/test_networks_golden.py",
    "bench/test_reid.py",
    "test_kills.py",
)
"""Files that take longer than 15 s, the longest first."""
VARIABLES = ("FFREID_DATA", "RANK", "LOCAL_RANK", "WORLD_SIZE")


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep toy data of tests out of the user's cache; remove variables of data and launchers."""
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ["FFREID_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first where several processes run tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    places = {TESTS / name: index for index, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places), "LONGEST names a missing file"
    items.sort(key=lambda item: places.get(item.path, len(places)))
