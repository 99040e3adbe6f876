"""Writing images: colours, folders, paths that are refused."""

from pathlib import Path

import numpy as np
import pytest

from ffreid.engine.dataset_files import read_image, write_image
from ffreid.errors import UserError

RED = np.zeros((4, 5, 3), np.uint8) + np.array([200, 0, 0], np.uint8)


def test_images_are_written_as_rgb_and_their_folder_is_created(tmp_path: Path) -> None:
    write_image(tmp_path / "new/folder/image.png", RED)
    np.testing.assert_array_equal(read_image(tmp_path / "new/folder/image.png"), RED)


@pytest.mark.parametrize("name", ["image.gif", "image", "file/image.png"])
def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write .*{tmp_path / name}"):
        write_image(tmp_path / name, RED)
