"""The lowest versions that pyproject.toml allows run the command line.

torch and torchvision are those already installed: a second copy takes gigabytes.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS = (
    "--version",
    "train --dataset toy-reid --output OUT DATA.HEIGHT 32 DATA.WIDTH 16 DATA.NUM_WORKERS 0"
    " DATA.TRAIN_BATCH 4 DATA.NUM_INSTANCES 2 TRAIN.BN_GROUPS 1 TRAIN.STEPS 1"
    " MODEL.BACKBONE random",
    "eval --dataset toy-pose --test-gt --output OUT DATA.TOY.TRAIN 1 DATA.TOY.TEST 1"
    " DATA.WORKERS 0",
    "runs OUT",
    "train --dataset toy-reid DATA.HEIGHT -1",
)


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the lower bounds of all dependencies but torch's into a folder of their own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [
        requirement.replace(">=", "==")
        for requirement in project["dependencies"]
        if not requirement.startswith("torch")
    ]
    assert all("==" in pin for pin in pins), pins
    folder = tmp_path_factory.mktemp("lowest")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *pins]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    if re.search(r"Temporary failure in name resolution|Network is unreachable", result.stderr):
        pytest.skip("pip reaches no index")
    assert result.returncode == 0, result.stderr
    return folder


def test_the_command_line_runs(lowest: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{lowest}{os.pathsep}{ROOT}", "COLUMNS": "120"}
    results = []
    for run in RUNS:
        command = [sys.executable, "-m", "ffreid", *run.replace("OUT", str(tmp_path)).split()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        results.append((done.returncode, done.stdout + done.stderr))
    assert [code for code, _ in results] == [0, 0, 0, 0, 2], results
    assert "rank-1" in results[1][1]
    assert "toy-reid" in results[3][1]
    assert results[4][1].startswith("error: ")
