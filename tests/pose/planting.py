"""Mistakes in the images of a dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
Plant = Callable[[Path], object]


def change(pattern: str, edit: Callable[[Array], Array]) -> Plant:
    """Change the pixels of the images whose names match."""

    def plant(root: Path) -> None:
        paths = sorted(root.rglob(pattern))
        assert paths
        for path in paths:
            Image.fromarray(edit(np.asarray(Image.open(path)))).save(path)

    return plant


def resave(pattern: str, mode: str, **options: Any) -> Plant:
    def plant(root: Path) -> None:
        path = next(root.rglob(pattern))
        Image.open(path).convert(mode).save(path, **options)

    return plant
