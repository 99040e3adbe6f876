"""The file of a calibration is named after its checkpoint."""

from pathlib import Path

import pytest

from ffreid.engine.calibrations import path_of


@pytest.mark.parametrize(
    ("checkpoint", "file"),
    [
        ("runs/best.pth", "runs/best.calibration.json"),
        ("ffb6d.v1.pth", "ffb6d.v1.calibration.json"),
        ("ffb6d.v2.pth", "ffb6d.v2.calibration.json"),
        ("best.pth.tar", "best.pth.calibration.json"),
        ("best", "best.calibration.json"),
    ],
)
def test_each_checkpoint_has_a_calibration_of_its_own(checkpoint: str, file: str) -> None:
    assert path_of(Path(checkpoint)) == Path(file)
