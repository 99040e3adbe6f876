"""Object models from the files of a dataset."""

from pathlib import Path

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.objects import folder_objects
from ffreid.pose.toy.dataset import toy_object_models
from tests.makers import toy_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_folder(tmp_path, frames=1, test_frames=1, synthetic=0, height=16, width=16)


def test_objects_in_a_folder_are_read(folder: Path) -> None:
    stored, toy = folder_objects("mine", folder), toy_object_models("toy-pose")
    assert stored.dataset == "mine"
    assert (stored.names, stored.symmetric) == (toy.names, toy.symmetric)
    for field in ("keypoints", "corners", "radii"):
        np.testing.assert_array_equal(getattr(stored, field), getattr(toy, field))
    (folder / "dataset_config/symmetric.txt").unlink()
    assert not folder_objects("mine", folder).symmetric


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_config/classes.txt", None, "cannot read the list .*classes.txt"),
        ("dataset_config/radius.txt", "0.1\n", r"radius.txt: shape \(1,\)"),
        ("dataset_config/symmetric.txt", "cup\n", "symmetric.txt: unknown class 'cup'"),
        ("ycb_kps/can_8_kps.txt", "1 2\n", r"can_8_kps.txt: shape"),
        ("ycb_kps/can_corners.txt", "a b c\n", "cannot read .*can_corners.txt"),
        ("ycb_kps/can_corners.txt", None, "cannot read .*can_corners.txt"),
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
