"""Writing pictures: colours, folders, paths that won't do."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffreid.engine.dataset_files import write_image
from ffreid.errors import UserError


def test_pictures_are_written_as_rgb_and_their_folder_is_made(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[..., 0] = 200
    write_image(tmp_path / "new/folder/picture.png", rgb)
    stored = cv2.imread(str(tmp_path / "new/folder/picture.png"))
    assert stored is not None
    np.testing.assert_array_equal(stored[..., ::-1], rgb)


@pytest.mark.parametrize("name", ["picture.gif", "picture", "file/picture.png"])
def test_a_path_that_cannot_be_written_is_the_user_s_to_mend(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write") as caught:
        write_image(tmp_path / name, np.zeros((4, 5, 3), np.uint8))
    assert str(tmp_path / name) in caught.value.message
