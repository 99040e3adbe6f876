"""Calibrated scores are probabilities: also on poses that the fit has not seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffreid.engine.calibrations import path_of
from ffreid.errors import UserError
from ffreid.pose import calibration
from ffreid.pose.calibration import fit
from tests.commands import exit_code, mistake, quoted, read


def draw(count: int, seed: int) -> tuple[list[float], list[bool]]:
    """Scores whose probability is their square."""
    generator = np.random.default_rng(seed)
    scores = generator.uniform(size=count)
    return scores.tolist(), (generator.uniform(size=count) < scores**2).tolist()


def test_probabilities_are_right_on_other_poses() -> None:
    known = fit(*draw(2000, 0), {})
    scores, right = draw(2000, 1)
    probabilities = known.probability(np.array(scores))
    np.testing.assert_allclose(probabilities, np.array(scores) ** 2, atol=0.15)
    assert calibration.calibration_error(probabilities, right) < 0.05
    assert calibration.calibration_error(np.array(scores), right) > 0.1
    for low, count, mean, share in calibration.reliability(probabilities, right):
        assert low <= mean <= low + 0.1
        assert count < 50 or share == pytest.approx(mean, abs=0.15)
    precisions = [p for _, _, p, _ in calibration.precision_at(probabilities, right) if p]
    assert precisions == sorted(precisions)


def test_the_map_is_the_isotonic_regression() -> None:
    known = fit([0.1, 0.2, 0.2, 0.3, 0.4] * 4, [False, True, False, False, True] * 4, {})
    np.testing.assert_allclose(known.probability(np.array([0, 0.1, 0.2, 0.3, 0.4, 1])), [
        0, 0, 1 / 3, 1 / 3, 1, 1
    ])  # fmt: skip
    assert len(known.scores) == 4


def test_the_cross_validated_error_does_not_use_a_frame_twice() -> None:
    scores, right = draw(400, 2)
    # Of frames with one pose each; a fit to noise looks perfect on its own poses only.
    noise = np.random.default_rng(3).uniform(size=400) < 0.5
    own = fit(scores, noise.tolist(), {}).probability(np.array(scores))
    held_out = calibration.cross_validated(scores, noise.tolist(), range(400))
    assert ((own - noise) ** 2).mean() < ((held_out - noise) ** 2).mean()
    report = calibration.summary(scores, right, list(range(400)))
    assert report["expected_calibration_error"] < 0.1
    assert report["poses"] == 400


def test_too_few_poses_are_refused() -> None:
    with pytest.raises(UserError, match="19 poses are too few"):
        fit([0.5] * 19, [True] * 19, {})


def test_files_are_read_back_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = fit(*draw(100, 0), {"weights": 7, "voting": {"VOTE.MAX_POINTS": 0}})
    checkpoint = tmp_path / "best.pth"
    path = path_of(checkpoint)
    assert calibration.beside(checkpoint, 7, {}) is None
    calibration.write(path, known, {})
    assert path.name == "best.calibration.json"
    again = calibration.beside(checkpoint, 7, {"VOTE.MAX_POINTS": 0})
    assert again is not None
    np.testing.assert_array_equal(again.probability(0.37), known.probability(0.37))
    assert capsys.readouterr().err == ""
    assert calibration.beside(checkpoint, 7, {"VOTE.MAX_POINTS": 20}) is not None
    assert "calibrated with VOTE.MAX_POINTS 0, not 20" in capsys.readouterr().err
    assert calibration.beside(checkpoint, 8, {}) is None
    assert "of other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"task": "pose"}',
        '{"task": "reid", "scores": [0, 1], "probabilities": [0, 1], "origin": {}}',
        '{"task": 1, "scores": [0, 1], "probabilities": [0, 1], "origin": {}}',
        '{"scores": [0, 1], "probabilities": [0, 1], "origin": {}}',
        '{"task": "pose", "scores": [0, 1], "probabilities": [0], "origin": {}}',
        '{"task": "pose", "scores": [1, 0], "probabilities": [0, 1], "origin": {}}',
        '{"task": "pose", "scores": [0, 1], "probabilities": [1, 0], "origin": {}}',
        '{"task": "pose", "scores": [0, 1], "probabilities": [0, 2], "origin": {}}',
        '{"task": "pose", "scores": [0, null], "probabilities": [0, 1], "origin": {}}',
        '{"task": "pose", "scores": [0, 1], "probabilities": [0, 1]}',
    ],
)
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.calibration.json").write_text(text)
    with pytest.raises(UserError, match="cannot read the calibration"):
        calibration.read(tmp_path / "a.calibration.json")


def test_eval_calibrates_and_then_tells_how_well_it_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.pose.own.makers import NoisyTruth

    def load(path: Path, objects: Any, device: Any) -> Any:
        return NoisyTruth(), {"step": 1}

    monkeypatch.setattr("ffreid.pose.build.load_network", load)
    monkeypatch.setattr("ffreid.pose.inference.network_votes", NoisyTruth.votes)
    best = tmp_path / "best.pth"
    best.touch()
    line = f"eval --dataset toy-pose --checkpoint {quoted(best)} --output {tmp_path}/runs"
    line += " DATA.TOY.TRAIN 1 DATA.WORKERS 0 MODEL.POINTS 2048 DATA.TOY.TEST"
    assert exit_code(f"{line} 60 --calibrate") == 0
    report = read(tmp_path / "runs/toy-pose/default/results.json")["calibration"]
    assert report["expected_calibration_error"] < 0.1
    assert 0.2 < report["right"] / report["poses"] < 0.8
    assert "calibration in" in capsys.readouterr().err
    # Frames that it was not fitted on.
    assert exit_code(f"{line} 61 DATA.TOY.SEED 5") == 0
    checked = read(tmp_path / "runs/toy-pose/default/results.json")["calibration"]
    assert checked["probabilities"] == "as stored"
    assert checked["expected_calibration_error"] < 0.1
    assert "expected calibration error" in capsys.readouterr().out


def test_a_calibration_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "best.pth").touch()
    path_of(tmp_path / "best.pth").mkdir()
    line = f"eval --dataset toy-pose --checkpoint {quoted(tmp_path / 'best.pth')} --calibrate"
    error, _ = mistake(capsys, f"{line} --output {tmp_path}/runs DATA.TOY.TRAIN 1 DATA.TOY.TEST 1")
    assert "best.calibration.json" in error
