"""Evaluation of predictions through the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from ffreid.pose.objects import ycb_objects
from ffreid.pose.resources import resource
from tests.commands import exit_code, read

OBJECTS = ycb_objects()
NAMES = ("0048/000001", "0049/000036")
CLASSES = [2, 13]
ROTATION = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
POSITIONS = [np.array([0.1, -0.05, 0.8]), np.array([-0.2, 0.1, 1.1])]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames with only meta.mat, and the meshes."""
    poses = np.stack([np.column_stack([ROTATION, position]) for position in POSITIONS], axis=2)
    for name in NAMES:
        path = tmp_path / "data" / f"{name}-meta.mat"
        path.parent.mkdir(parents=True)
        ids = np.array(CLASSES)[:, None]
        savemat(path, {"cls_indexes": ids, "poses": poses, "factor_depth": [[10000]]})
    for row, name in enumerate(OBJECTS.names):
        path = tmp_path / "models" / name / "points.xyz"
        path.parent.mkdir(parents=True)
        np.savetxt(path, OBJECTS.corners[row])
    (tmp_path / "frames.txt").write_text("\n".join(NAMES))
    return tmp_path


def write_bop_csv(path: Path, shift_mm: float) -> None:
    """The true poses in BOP's frame, moved by `shift_mm`; the second frame lacks an object."""
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for frame, classes in (("48,1", CLASSES), ("49,36", CLASSES[:1])):
        for class_id, position in zip(classes, POSITIONS, strict=False):
            offset = np.array(resource("published")["bop_ycbv_offsets_mm"][OBJECTS.name(class_id)])
            t = 1000 * position - ROTATION @ offset + [shift_mm, 0, 0]
            r, t = (" ".join(f"{value:.9f}" for value in matrix.flat) for matrix in (ROTATION, t))
            lines.append(f"{frame},{class_id},0.9,{r},{t},-1")
    path.write_text("\n".join(lines))


def evaluated(root: Path, options: str = "") -> Any:
    files = f"--json {root}/result.json --predictions {root}/poses.csv"
    assert exit_code(f"eval --dataset ycb --root {root} {files} {options}") == 0
    return read(root / "result.json")


def test_a_bop_file_is_scored_against_meta_files(root: Path) -> None:
    write_bop_csv(root / "poses.csv", shift_mm=10.0)
    pooled = evaluated(root, f"--frames {root}/frames.txt")["results"]["pooled"]
    assert (pooled["instances"], pooled["missed"]) == (4, 1)
    # Three of four are 10 mm off: up to there the first of them counts (1/4), from there all (3/4).
    assert pooled["ADD_auc"] == pytest.approx(10 * 0.25 + 90 * 0.75, abs=0.01)
    assert pooled["keypoint_error_detected_m"] == pytest.approx(0.01, abs=1e-6)


def test_the_frames_may_come_from_the_test_list(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "image_sets").mkdir()
    (root / "image_sets/keyframe.txt").write_text("\n".join(NAMES))
    write_bop_csv(root / "poses.csv", shift_mm=0.0)
    result = evaluated(root)
    assert "published: " in capsys.readouterr().err
    assert result["frames"] == 2
    assert result["results"]["classes"][OBJECTS.name(2)]["ADD_auc"] == pytest.approx(100, abs=0.01)
