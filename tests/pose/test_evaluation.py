"""Evaluation of predictions through the command line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from ffreid.pose.evaluation import skipped_notes
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
    assert "note: published results are of 2,949 frames, not 2, and are" in capsys.readouterr().err
    assert result["frames"] == 2
    assert result["results"]["classes"][OBJECTS.name(2)]["ADD_auc"] == pytest.approx(100, abs=0.01)


def test_what_is_scored_and_what_is_left_out_is_what_went_in(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bop_csv(root / "poses.csv", shift_mm=0.0)
    header, *lines = (root / "poses.csv").read_text().splitlines()
    first = lines[0].replace(",0.9,", ",0.5,")
    other_class = first.replace("48,1,2,", "48,1,5,")
    other_frame = first.replace("48,1,", "50,7,")
    lines += [first, first, other_class, other_frame]
    (root / "poses.csv").write_text("\n".join([header, *lines]))
    result = evaluated(root, f"--frames {root}/frames.txt")
    pooled = result["results"]["pooled"]
    assert list(result["left_out"].values()) == [1, 1, 2]
    assert result["poses"] == len(lines)
    assert pooled["instances"] - pooled["missed"] == len(lines) - 4
    # The lower scored poses change nothing.
    assert pooled["ADD_auc"] == pytest.approx(75, abs=0.01)
    told = capsys.readouterr().err
    assert result["notes"] == [
        "not scored: poses of other frames: 1",
        "not scored: poses of objects that are not in the frame: 1",
        "not scored: further poses of an object in a frame: 2",
    ]
    assert all(f"note: {note}\n" in told for note in result["notes"])


def test_unread_files_of_poses_are_counted(root: Path) -> None:
    folder = root / "poses.csv"  # a folder all the same
    folder.mkdir()
    for name in ("0048_002_master_chef_can", "0051_002_master_chef_can", "readme"):
        (folder / f"{name}.txt").write_text("1 0 0 0 0 0 1\n")
    assert evaluated(root, f"--frames {root}/frames.txt")["left_out"]["files"] == 2


def test_skipped_frames_are_counted_and_a_few_named() -> None:
    assert skipped_notes({}, 9) == []
    (note,) = skipped_notes({f"data/0048/{i:06d}": "too few points" for i in range(7)}, 9)
    assert note.startswith("7 of 9 frames are skipped, their objects count as missed: data/0048/")
    assert note.count("too few points") == 5
    assert note.endswith("too few points, …")


def test_evaluation_does_not_import_what_only_augmentation_needs() -> None:
    code = "import sys, ffreid.pose.evaluation; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
