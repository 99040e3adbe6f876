"""A made-up data set in YCB-Video's layout, to try everything with and to test against."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.io

from ffreid.engine import synthetic as synthetic_data
from ffreid.pose.data.frame import Frame
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.toy.objects import ToyObject, toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.toy.shapes import box_corners, surface_points

VERSION = 1
PARTS = ("data", "data_syn", "models", "ycb_kps", "dataset_config")
MESH_POINTS, DENSE_POINTS, KEYPOINTS = 800, 4000, 8

Progress = Callable[[int, int], None]


def ensure_toy(
    folder: Path,
    *,
    frames: int,
    test_frames: int,
    synthetic: int = 0,
    height: int = 96,
    width: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Make a data set in YCB-Video's layout, unless `folder` holds exactly this one already.

    The same arguments give the same bytes. Frames do not depend on how many there are: a smaller
    set is the start of a larger one. For other sizes and unfinished data see
    `ffreid.engine.synthetic.generate_once`.

    Args:
        folder: where to; new, empty or of toy data.
        frames: training frames ``data/0000/``.
        test_frames: test frames ``data/0048/``.
        synthetic: training frames ``data_syn/`` of objects in empty space, without noise.
        height: rows of each picture.
        width: columns of each picture; the field of view is that of YCB-Video's camera.
        seed: of the scenes; the objects are always the same.
        progress: called with (frames written, frames in all) after each.

    Returns:
        `folder`.

    Raises:
        UserError: `folder` holds something else, or a file cannot be written.
    """
    facts = {
        "version": VERSION,
        "frames": frames,
        "test_frames": test_frames,
        "synthetic": synthetic,
        "height": height,
        "width": width,
        "seed": seed,
    }

    def write() -> None:
        objects = toy_objects()
        write_objects(folder, objects)
        names = list(_names(frames, test_frames, synthetic))
        for done, (name, stream) in enumerate(names, 1):
            frame = toy_frame(
                name,
                objects,
                height=height,
                width=width,
                generator=np.random.default_rng([seed, *stream]),
                synthetic=name.startswith("data_syn"),
            )
            write_frame(folder, frame)
            if progress is not None:
                progress(done, len(names))
        _write_lists(folder, [name for name, _ in names])

    return synthetic_data.generate_once(folder, write, parameters=facts, parts=PARTS)


def write_frame(folder: Path, frame: Frame) -> None:
    """Write `frame` as ``<name>-{color,depth,label}.png`` and ``<name>-meta.mat``.

    Raises:
        OSError: a file cannot be written.
    """
    path = folder / frame.name
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_png(f"{path}-color.png", frame.rgb[..., ::-1])
    _write_png(f"{path}-depth.png", frame.depth.astype(np.uint16))
    _write_png(f"{path}-label.png", frame.labels.astype(np.uint8))
    meta = {
        "cls_indexes": frame.class_ids.astype(np.uint8)[:, None],
        "poses": np.moveaxis(frame.camera_from_object, 0, -1).astype(np.float64),
        "factor_depth": np.array([[frame.depth_scale]]),
        "intrinsic_matrix": np.asarray(frame.intrinsics, np.float64),
    }
    content = io.BytesIO()
    scipy.io.savemat(content, meta)
    # The first 116 bytes are free text, into which scipy writes the date.
    header = b"MATLAB 5.0 MAT-file".ljust(116)
    Path(f"{path}-meta.mat").write_bytes(header + content.getvalue()[len(header) :])


def _names(frames: int, test_frames: int, synthetic: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each frame's name and the numbers that, with the seed, start its random stream."""
    parts = (("data/0000", frames), ("data/0048", test_frames), ("data_syn", synthetic))
    for part, (prefix, count) in enumerate(parts):
        for number in range(1, count + 1):
            yield f"{prefix}/{number:06d}", (part, number)


def write_objects(folder: Path, objects: tuple[ToyObject, ...]) -> None:
    """Write what `ffreid.pose.objects.folder_objects` reads, and the meshes, to an empty folder."""
    config, kps = folder / "dataset_config", folder / "ycb_kps"
    config.mkdir()
    kps.mkdir()
    for index, thing in enumerate(objects):
        points = surface_points(thing.shape, DENSE_POINTS, np.random.default_rng([23, index]))
        model = folder / "models" / thing.name
        model.mkdir(parents=True)
        np.savetxt(model / "points.xyz", points[:MESH_POINTS], fmt="%.8f")
        chosen = farthest_points(points, KEYPOINTS, init_centre=True)
        np.savetxt(kps / f"{thing.name}_8_kps.txt", points[chosen], fmt="%.8f")
        corners = box_corners(thing.shape.half_extents)
        np.savetxt(kps / f"{thing.name}_corners.txt", corners, fmt="%.8f")
    _write_lines(config / "classes.txt", [thing.name for thing in objects])
    # YCB-Video's own radii are the largest half extent, not half the diagonal.
    radii = [f"{thing.shape.half_extents.max():.8f}" for thing in objects]
    _write_lines(config / "radius.txt", radii)
    _write_lines(config / "symmetric.txt", [thing.name for thing in objects if thing.symmetric])


def _write_lists(folder: Path, names: list[str]) -> None:
    test = [name for name in names if name.startswith("data/0048")]
    config = folder / "dataset_config"
    _write_lines(config / "train_data_list.txt", [name for name in names if name not in test])
    _write_lines(config / "test_data_list.txt", test)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_png(path: str, picture: npt.NDArray[Any]) -> None:
    done, content = cv2.imencode(".png", picture)
    assert done
    Path(path).write_bytes(content.tobytes())
