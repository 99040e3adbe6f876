"""Tiny data sets in the real layouts, for the tests of every room."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from ffreid.pose.data.frame import Frame
from ffreid.pose.toy.dataset import ensure_toy
from ffreid.pose.toy.objects import ToyObject, patchwork, toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.toy.shapes import Ellipsoid, Floats

APE = 1
# LineMOD numbers of what stands beside the ape in fused pictures: can, cat.
OTHERS = (5, 6)
LINEMOD_CAMERA = np.array([[572.4114, 0, 325.2611], [0, 573.57043, 242.04899], [0, 0, 1]])
BLENDER_CAMERA = np.array([[700.0, 0, 320], [0, 700, 240], [0, 0, 1]])


def toy_folder(
    folder: Path,
    *,
    frames: int = 4,
    test_frames: int = 2,
    synthetic: int = 2,
    height: int = 96,
    width: int = 128,
    seed: int = 0,
) -> Path:
    """Write toy data in YCB-Video's layout to ``folder/toy`` and give that path."""
    return ensure_toy(
        folder / "toy",
        frames=frames,
        test_frames=test_frames,
        synthetic=synthetic,
        height=height,
        width=width,
        seed=seed,
    )


def linemod_folder(
    folder: Path,
    *,
    frames: int = 3,
    test_frames: int = 2,
    renders: int = 0,
    fused: int = 0,
    height: int = 96,
    width: int = 128,
    seed: int = 0,
) -> Path:
    """Write an ellipsoid "ape" in LineMOD's layout and give ``folder/Linemod_preprocessed``.

    The cameras are LineMOD's and, for renders, Blender's, as readers expect them; pictures of less
    than 480 x 640 show the upper left corner of what such a camera sees, with the ape in it.

    Args:
        folder: where to.
        frames: how many are listed in train.txt.
        test_frames: how many more are listed in test.txt.
        renders: how many ``renders/ape/*.pkl``.
        fused: how many ``fuse/ape/*.pkl``.
        height: rows of the pictures.
        width: columns of the pictures.
        seed: of all scenes.
    """
    root = folder / "Linemod_preprocessed"
    sequence = root / f"data/{APE:02d}"
    for part in ("rgb", "depth", "mask"):
        (sequence / part).mkdir(parents=True)
    truth: dict[int, list[dict[str, Any]]] = {}
    for number in range(frames + test_frames):
        frame = _frame_with_ape(f"{number:04d}", [seed, number], LINEMOD_CAMERA, height, width)
        truth[number] = [_write_linemod_frame(sequence, frame)]
    info = {
        number: {"cam_K": LINEMOD_CAMERA.ravel().tolist(), "depth_scale": 1.0} for number in truth
    }
    (sequence / "gt.yml").write_text(yaml.safe_dump(truth, default_flow_style=None))
    (sequence / "info.yml").write_text(yaml.safe_dump(info, default_flow_style=None))
    names = [f"{number:04d}\n" for number in truth]
    (sequence / "train.txt").write_text("".join(names[:frames]))
    (sequence / "test.txt").write_text("".join(names[frames:]))
    (root / "models").mkdir()
    write_ape_mesh(root / f"models/obj_{APE:02d}.ply")
    for kind, count in (("renders", renders), ("fuse", fused)):
        if count:
            (root / kind / "ape").mkdir(parents=True)
        for number in range(count):
            item = _synthetic_item(kind, [seed, 99, number], height=height, width=width)
            (root / kind / "ape" / f"{number}.pkl").write_bytes(pickle.dumps(item))
    return root


def ape() -> ToyObject:
    """An ellipsoid of the LineMOD ape's size (92 mm), textured, in its mesh's frame."""
    shape = Ellipsoid((0.0379, 0.0388, 0.0459))
    return ToyObject("ape", shape, patchwork(shape, 0.07, np.random.default_rng(1)))


def ape_vertices(rings: int = 30, around: int = 40) -> Floats:
    """(rings * around, 3) vertices of the ape's mesh, millimetres, ring by ring."""
    polar, azimuth = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, rings),
        np.arange(around) * 2 * np.pi / around,
        indexing="ij",
    )
    unit = [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)]
    vertices: Floats = np.stack(unit, axis=-1).reshape(-1, 3) * ape().shape.half_extents * 1000
    return vertices


def write_ape_mesh(path: Path, rings: int = 30, around: int = 40) -> None:
    """Write the ape as LineMOD's meshes are: ASCII PLY, millimetres, normals and colours."""
    vertices = ape_vertices(rings, around)
    normals = ape().shape.normals(vertices / 1000)
    colours = np.rint(ape().texture(vertices / 1000).clip(0, 1) * 255).astype(int)
    index = np.arange(rings * around).reshape(rings, around)
    right, below = np.roll(index, -1, axis=1), np.roll(index, -1, axis=0)
    corner = np.roll(right, -1, axis=0)
    faces = np.concatenate(
        [np.stack([index, below, corner], -1)[:-1], np.stack([index, corner, right], -1)[:-1]]
    ).reshape(-1, 3)
    header = ["ply", "format ascii 1.0", "comment made up", f"element vertex {len(vertices)}"]
    header += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    header += [f"property uchar {name}" for name in ("red", "green", "blue", "alpha")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    lines = [*header, "end_header"]
    for vertex, normal, colour in zip(vertices, normals, colours, strict=True):
        numbers = " ".join(f"{value:.6g}" for value in (*vertex, *normal))
        lines.append(f"{numbers} {' '.join(map(str, colour))} 255")
    lines += [f"3 {a} {b} {c}" for a, b, c in faces]
    path.write_text("\n".join(lines) + "\n")


def _frame_with_ape(
    name: str,
    seed: list[int],
    camera: Floats,
    height: int,
    width: int,
    *,
    others: tuple[ToyObject, ...] = (),
    synthetic: bool = False,
) -> Frame:
    generator = np.random.default_rng(seed)
    while True:
        frame = toy_frame(
            name,
            (ape(), *others),
            height=height,
            width=width,
            generator=generator,
            synthetic=synthetic,
            intrinsics=camera,
        )
        if 1 in frame.class_ids:
            return frame


def _write_linemod_frame(sequence: Path, frame: Frame) -> dict[str, Any]:
    """Write one frame's pictures; give its entry in gt.yml (millimetres)."""
    mask = np.where(frame.labels == 1, 255, 0).astype(np.uint8)
    _write_png(sequence / f"rgb/{frame.name}.png", frame.rgb[..., ::-1])
    _write_png(sequence / f"depth/{frame.name}.png", np.rint(frame.depth / 10).astype(np.uint16))
    _write_png(sequence / f"mask/{frame.name}.png", np.repeat(mask[..., None], 3, axis=2))
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    pose = frame.camera_from_object[0].astype(np.float64)
    return {
        "cam_R_m2c": pose[:, :3].ravel().tolist(),
        "cam_t_m2c": (pose[:, 3] * 1000).tolist(),
        "obj_bb": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1],
        "obj_id": APE,
    }


def _synthetic_item(kind: str, seed: list[int], *, height: int, width: int) -> dict[str, Any]:
    """What one pickle of ``renders`` (the ape alone) or ``fuse`` (beside others) holds."""
    rendered = kind == "renders"
    camera = BLENDER_CAMERA if rendered else LINEMOD_CAMERA
    others = () if rendered else toy_objects()[1:3]
    frame = _frame_with_ape(
        kind, [*seed, rendered], camera, height, width, others=others, synthetic=rendered
    )
    numbers = np.array([0, 255 if rendered else APE, *OTHERS], np.uint8)
    return {
        "rgb": frame.rgb,
        "depth": (frame.depth / frame.depth_scale).astype(np.float32),
        "mask": numbers[frame.labels],
        "K": frame.intrinsics,
        "RT": frame.camera_from_object[0],
        "cls_typ": "ape",
        "rnd_typ": "render" if rendered else "fuse",
    }


def _write_png(path: Path, picture: npt.NDArray[Any]) -> None:
    assert cv2.imwrite(str(path), picture)
