"""Pictures of a user's own."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, seed: int) -> Path:
    """A picture that depends on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (4, 2, 3)).astype(np.uint8)
    Image.fromarray(values).resize((16, 32), Image.Resampling.NEAREST).save(path)
    return path


def pictures(folder: Path, names: str, first: int = 0) -> list[Path]:
    return [draw(folder / name, first + seed) for seed, name in enumerate(names.split())]
