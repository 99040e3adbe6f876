"""Small datasets in the layouts of the real ones."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from ffreid.pose.toy.dataset import ensure_toy
from ffreid.pose.toy.objects import ToyObject, uniform
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.toy.shapes import Ellipsoid

CAMERA = np.array([[572.4114, 0, 325.2611], [0, 573.57043, 242.04899], [0, 0, 1]])
"""LineMOD's."""


def toy_folder(folder: Path, **sizes: int) -> Path:
    """Write toy data in YCB-Video's layout to ``folder/toy`` and return that path."""
    options: dict[str, Any] = {"frames": 4, "test_frames": 2, "synthetic": 2, "seed": 0}
    options |= {"height": 96, "width": 128, **sizes}
    return ensure_toy(folder / "toy", **options)


def linemod_folder(folder: Path) -> Path:
    """Write an ellipsoid "ape" in LineMOD's layout: 3 training and 2 test frames.

    The images are the upper left corner of what LineMOD's camera sees.
    """
    root = folder / "Linemod_preprocessed"
    sequence = root / "data/01"
    for part in ("rgb", "depth", "mask"):
        (sequence / part).mkdir(parents=True)
    shape = Ellipsoid((0.0379, 0.0388, 0.0459))
    ape = ToyObject("ape", shape, uniform((0.7, 0.5, 0.3)))
    ground_truth = {number: [_write_frame(sequence, ape, number)] for number in range(5)}
    info = {number: {"cam_K": CAMERA.ravel().tolist(), "depth_scale": 1.0} for number in range(5)}
    (sequence / "gt.yml").write_text(yaml.safe_dump(ground_truth))
    (sequence / "info.yml").write_text(yaml.safe_dump(info))
    (sequence / "train.txt").write_text("0000\n0001\n0002\n")
    (sequence / "test.txt").write_text("0003\n0004\n")
    (root / "models").mkdir()
    points = np.random.default_rng(0).normal(size=(1000, 3))
    vertices = points / np.linalg.norm(points, axis=1, keepdims=True) * shape.half_extents * 1000
    header = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    lines = [*header, "end_header", *(" ".join(map(str, vertex)) for vertex in vertices)]
    (root / "models/obj_01.ply").write_text("\n".join(lines) + "\n")
    return root


def _write_frame(sequence: Path, ape: ToyObject, number: int) -> dict[str, Any]:
    """Write the images of a frame; return its entry in gt.yml (millimetres)."""
    generator, name = np.random.default_rng([0, number]), f"{number:04d}"
    while True:
        frame = toy_frame(
            name, (ape,), height=96, width=128, generator=generator, intrinsics=CAMERA
        )
        if len(frame.class_ids):
            break
    mask = np.where(frame.labels == 1, 255, 0).astype(np.uint8)
    images: dict[str, npt.NDArray[Any]] = {
        "rgb": frame.rgb[..., ::-1],
        "depth": np.rint(frame.depth / 10).astype(np.uint16),
        "mask": np.repeat(mask[..., None], 3, axis=2),
    }
    for part, image in images.items():
        assert cv2.imwrite(str(sequence / part / f"{name}.png"), image)
    pose = frame.camera_from_object[0].astype(np.float64)
    left, top, width, height = cv2.boundingRect(mask)
    return {
        "cam_R_m2c": pose[:, :3].ravel().tolist(),
        "cam_t_m2c": (pose[:, 3] * 1000).tolist(),
        "obj_bb": [left, top, width, height],
        "obj_id": 1,
    }
