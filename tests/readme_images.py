"""Make the images of the README: python -m tests.readme_images RUNS.

RUNS holds a trained toy-reid: ``ffreid train --dataset toy-reid --output RUNS`` takes minutes.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from ffreid.pose.draw import ROW
from ffreid.reid.visualization import BORDER, GAP, LINE, TILE_HEIGHT, TILE_WIDTH

Image = npt.NDArray[np.uint8]
PACKAGE = Path(__file__).resolve().parents[1] / "ffreid"
WIDTH, COLOURS = 840, 256
FRAME = "data/0048/000001"
LISTS, SHOWN = 8, (4, 6, 7)
"""Ranked lists that are drawn, from the worst to the best, and which of them are shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    runs = parser.parse_args().runs.resolve()
    with TemporaryDirectory() as folder:
        save("pose/example.png", pose_image(Path(folder)))
    save("reid/example.png", reid_image(runs))


def pose_image(folder: Path) -> Image:
    """RGB and depth of one rendered frame, and its poses beside them."""
    sizes = "DATA.TOY.TRAIN 1 DATA.TOY.TEST 1 DATA.TOY.HEIGHT 480 DATA.TOY.WIDTH 640"
    options = ["--root", str(folder), "--output", str(folder), "--test-gt", "--pictures", "1"]
    evaluate("toy-pose", *options, *sizes.split())
    frame = next(folder.glob(f"toy-pose/**/{FRAME}-color.png"))
    rgb = read(frame)
    depth = cv2.imread(str(frame).replace("color", "depth"), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    low, high = np.percentile(depth[depth > 0], (1, 99))
    near = (255 * (1 - np.clip((depth - low) / (high - low), 0, 1)) * (depth > 0)).astype(np.uint8)
    drawn = read(next(folder.glob("toy-pose/default/test-gt/pictures/*.png")))
    poses = drawn[2 * ROW :, drawn.shape[1] // 2 :]
    inputs = [rgb, cv2.applyColorMap(near, cv2.COLORMAP_VIRIDIS).astype(np.uint8)]
    left = np.concatenate([resized(image, WIDTH // 3) for image in inputs])
    return np.concatenate([left, resized(poses, 2 * (WIDTH // 3))], axis=1)


def reid_image(runs: Path) -> Image:
    """A few ranked lists, without their captions."""
    evaluate("toy-reid", "--output", str(runs), "--pictures", str(LISTS))
    files = sorted((runs / "toy-reid/default/pictures").glob("0*.png"))
    top, height = LINE + GAP, TILE_HEIGHT + 2 * BORDER
    width = 10 * (TILE_WIDTH + 2 * BORDER + GAP) + 3 * GAP
    lists = [read(files[number])[top : top + height, :width] for number in SHOWN]
    gap = np.full((GAP, width, 3), 32, np.uint8)
    return resized(np.concatenate([part for one in lists for part in (one, gap)][:-1]), WIDTH)


def evaluate(dataset: str, *options: str) -> None:
    command = [sys.executable, "-m", "ffreid", "eval", "--dataset", dataset, *options]
    subprocess.run(command, check=True)


def read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image.astype(np.uint8)


def resized(image: Image, width: int) -> Image:
    size = (width, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def save(name: str, image: Image) -> None:
    """Write a PNG of few colours."""
    palette = Pillow.fromarray(image[..., ::-1].copy()).quantize(
        COLOURS, Pillow.Quantize.FASTOCTREE
    )
    palette.save(PACKAGE / name, optimize=True)
    sys.stdout.write(f"{PACKAGE / name}: {(PACKAGE / name).stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
