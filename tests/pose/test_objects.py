"""Object models from the files of a dataset."""

from pathlib import Path

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.objects import folder_objects
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder

DUCK = toy_object_models("").keypoints[2]
KEYPOINTS_MM, MOVED = (
    "".join(f"{x} {y} {z}\n" for x, y, z in points) for points in (DUCK * 1000, DUCK + 0.05)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_folder(tmp_path, frames=1, test_frames=1, synthetic=0, height=16, width=16)


def test_objects_in_a_folder_are_read(folder: Path) -> None:
    stored, toy = folder_objects("mine", folder), toy_object_models("toy-pose")
    assert stored.dataset == "mine"
    assert (stored.names, stored.symmetric) == (toy.names, toy.symmetric)
    for field in ("keypoints", "corners", "radii"):
        np.testing.assert_array_equal(getattr(stored, field), getattr(toy, field))
    (folder / "dataset_config/symmetric.txt").write_text("\n")
    assert not folder_objects("mine", folder).symmetric
    (folder / "dataset_config/symmetric.txt").unlink()
    assert not folder_objects("mine", folder).symmetric


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_config/classes.txt", None, "cannot read the list .*classes.txt"),
        ("dataset_config/classes.txt", "duck\nduck\ntruck\n", "'duck' is listed twice"),
        ("dataset_config/classes.txt", "duck\ntruck\nbottle\n", "radius.txt: 5 numbers"),
        ("dataset_config/radius.txt", "0.1\n", r"radius.txt: 1 numbers"),
        ("dataset_config/radius.txt", "a\n" * 5, "cannot read .*radius.txt"),
        ("dataset_config/radius.txt", "85\n" * 5, "_8_kps.txt: the object is .* radius is 85"),
        ("dataset_config/radius.txt", "0\n" * 5, "_8_kps.txt: the object is .* radius is 0"),
        ("dataset_config/symmetric.txt", "cup\n", "symmetric.txt: 'cup' is not in classes.txt"),
        ("ycb_kps/duck_8_kps.txt", "1 2\n", r"duck_8_kps.txt: 2 numbers"),
        ("ycb_kps/duck_8_kps.txt", "0 0 0\n" * 7 + "0 nan 0\n", "duck_8_kps.txt, line 8: NaN"),
        ("ycb_kps/duck_8_kps.txt", "0 0 0\n" * 8, "duck_8_kps.txt: all points lie in one place"),
        ("ycb_kps/duck_8_kps.txt", "".join(f"0 0 {i / 100}\n" for i in range(8)), "on one line"),
        ("ycb_kps/duck_8_kps.txt", KEYPOINTS_MM, "duck_8_kps.txt: the object is .* m large"),
        ("ycb_kps/duck_8_kps.txt", MOVED, "duck_8_kps.txt: keypoints lie outside of the box"),
        ("ycb_kps/duck_corners.txt", "a b c\n", "cannot read .*duck_corners.txt"),
        ("ycb_kps/duck_corners.txt", None, "cannot read .*duck_corners.txt"),
    ],
)
def test_invalid_object_files_are_errors(
    folder: Path, file: str, text: str | None, message: str
) -> None:
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        folder_objects("mine", folder)
