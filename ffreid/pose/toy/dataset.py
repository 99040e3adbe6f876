"""A rendered dataset in YCB-Video's layout, for trials and tests."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import scipy.io

from ffreid.engine.synthetic import generate_once
from ffreid.pose.data.frame import Frame
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.objects import ObjectModels
from ffreid.pose.toy.objects import ToyObject, toy_objects
from ffreid.pose.toy.scenes import toy_frame
from ffreid.pose.toy.shapes import Floats, box_corners, surface_points

VERSION = 2
MESH_POINTS, DENSE_POINTS, KEYPOINTS = 800, 4000, 8


def ensure_toy(
    folder: Path,
    *,
    frames: int,
    test_frames: int,
    synthetic: int = 0,
    height: int = 96,
    width: int = 128,
    seed: int = 0,
    cls: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a dataset in YCB-Video's layout, unless `folder` contains exactly this one already.

    The training frames are in ``data/0000/`` and, of objects in empty space, without noise
    (`synthetic`), in ``data_syn/``, the test frames in ``data/0048/``. The objects (all, or `cls`
    alone) and the field of view are always the same. The same arguments give the same bytes, and
    a smaller dataset is the start of a larger one; see `ffreid.engine.synthetic.generate_once`.
    `progress` is called with the numbers of rendered and of all frames.
    """

    objects = toy_objects(cls)

    def write(folder: Path) -> None:
        write_objects(folder, objects)
        # Each frame's name with the numbers that, with the seed, start its random stream.
        splits = (("data/0000", frames), ("data/0048", test_frames), ("data_syn", synthetic))
        streams = {
            f"{prefix}/{number:06d}": (seed, split, number)
            for split, (prefix, count) in enumerate(splits)
            for number in range(1, count + 1)
        }
        for done, (name, stream) in enumerate(streams.items(), 1):
            frame = toy_frame(
                name,
                objects,
                height=height,
                width=width,
                generator=np.random.default_rng(stream),
                synthetic=name.startswith("data_syn"),
            )
            write_frame(folder, frame)
            if progress is not None:
                progress(done, len(streams))
        test = [name for name in streams if name.startswith("data/0048")]
        train = [name for name in streams if name not in test]
        _write_lines(folder / "dataset_config/train_data_list.txt", train)
        _write_lines(folder / "dataset_config/test_data_list.txt", test)

    sizes = {"frames": frames, "test_frames": test_frames, "synthetic": synthetic}
    sizes |= {"height": height, "width": width}
    parameters = {"version": VERSION, **sizes, "seed": seed} | ({"object": cls} if cls else {})
    return generate_once(folder, write, parameters=parameters)


def toy_object_models(dataset: str, cls: str = "") -> ObjectModels:
    """The toy objects, all or `cls` alone, in the precision of the toy data's files."""
    objects = toy_objects(cls)
    half_extents = [item.shape.half_extents for item in objects]
    return ObjectModels(
        dataset=dataset,
        names=tuple(item.name for item in objects),
        numbers=tuple(range(1, len(objects) + 1)),
        keypoints=_stored(np.stack([_geometry(item)[1] for item in objects])),
        corners=_stored(np.stack([box_corners(half) for half in half_extents])),
        radii=_stored(np.stack([half.max() for half in half_extents])),
        diameters=None,
        symmetric=frozenset(i for i, item in enumerate(objects, 1) if item.symmetric),
    )


def toy_meshes(cls: str = "") -> dict[int, npt.NDArray[np.float32]]:
    """(P, 3) vertices of the toy objects by class id, in the precision of the files."""
    objects = enumerate(toy_objects(cls), 1)
    return {class_id: _stored(_geometry(item)[0][:MESH_POINTS]) for class_id, item in objects}


def _stored(values: Floats) -> npt.NDArray[np.float32]:
    return np.round(values, 8).astype(np.float32)  # the files have 8 decimals


def _geometry(item: ToyObject) -> tuple[Floats, Floats]:
    """(P, 3) surface points and (K, 3) keypoints of a toy object, metres."""
    points = surface_points(item.shape, DENSE_POINTS, np.random.default_rng(23))
    return points, points[farthest_points(points, KEYPOINTS, init_centre=True)]


def write_frame(folder: Path, frame: Frame) -> None:
    """Write `frame` as ``<name>-{color,depth,label}.png`` and ``<name>-meta.mat``."""
    path = folder / frame.name
    path.parent.mkdir(parents=True, exist_ok=True)
    for part, image in (
        ("color", frame.rgb[..., ::-1]),
        ("depth", frame.depth.astype(np.uint16)),
        ("label", frame.labels.astype(np.uint8)),
    ):
        encoded, content = cv2.imencode(".png", image)
        assert encoded
        Path(f"{path}-{part}.png").write_bytes(content.tobytes())
    meta = {
        "cls_indexes": frame.class_ids.astype(np.uint8)[:, None],
        "poses": np.moveaxis(frame.camera_from_object, 0, -1).astype(np.float64),
        "factor_depth": np.array([[frame.depth_scale]]),
        "intrinsic_matrix": np.asarray(frame.intrinsics, np.float64),
    }
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, meta)
    # The first 116 bytes are free text, into which scipy writes the date.
    header = b"MATLAB 5.0 MAT-file".ljust(116)
    Path(f"{path}-meta.mat").write_bytes(header + buffer.getvalue()[len(header) :])


def write_objects(folder: Path, objects: Sequence[ToyObject]) -> None:
    """Write meshes, keypoints, corners, radii and names where the authors' code expects them."""
    config = folder / "dataset_config"
    config.mkdir()
    (folder / "ycb_kps").mkdir()
    for item in objects:
        (folder / "models" / item.name).mkdir(parents=True)
        points, keypoints = _geometry(item)
        for file, rows in (
            (f"models/{item.name}/points.xyz", points[:MESH_POINTS]),
            (f"ycb_kps/{item.name}_8_kps.txt", keypoints),
            (f"ycb_kps/{item.name}_corners.txt", box_corners(item.shape.half_extents)),
        ):
            np.savetxt(folder / file, rows, fmt="%.8f")
    _write_lines(config / "classes.txt", [item.name for item in objects])
    # YCB-Video's radii are the largest half extent, not half the diagonal.
    radii = [item.shape.half_extents.max() for item in objects]
    np.savetxt(config / "radius.txt", radii, fmt="%.8f")
    _write_lines(config / "symmetric.txt", [item.name for item in objects if item.symmetric])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
