"""A BOP dataset of three images: a box (object 2) twice, a cylinder (object 7), ids with gaps."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from ffreid.engine.dataset_files import read_mask
from ffreid.pose import build, sources
from ffreid.pose.bop.rasterizer import render_depth
from ffreid.recipes import compose
from tests.commands import exit_code, read

Array = np.ndarray[Any, Any]
Placed = tuple[int, Array]
"""Number and pose (3, 4), mm, of an object."""
SMALL = "DATA.WORKERS 0 MODEL.POINTS 1024"
SIZE = 96, 128
CAMERA = np.array([[120.0, 0, 64], [0, 120, 48], [0, 0, 1]])
DEPTH_SCALE = 0.1
BOX = trimesh.creation.box([80.0, 60, 40])
CYLINDER = trimesh.creation.cylinder(25.0, 70)
FLIPS = [np.diag(d).astype(float).ravel().tolist() for d in ([1, -1, -1, 1], [-1, 1, -1, 1])]
INFO: dict[str, Any] = {
    "2": {"diameter": float(np.linalg.norm([80, 60, 40])), "symmetries_discrete": FLIPS},
    "7": {
        "diameter": float(np.hypot(50, 70)),
        "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}],
    },
}


def poses(image: int) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Objects and poses of an image: two boxes and a cylinder, side by side."""
    turn, _ = cv2.Rodrigues(np.array([0.4 + image, 0.3, 0.2]))
    places = np.array([[-130.0, 0, 500], [0, 20, 480], [130, 0, 520]])
    return [
        (number, np.column_stack([turn, place]))
        for number, place in zip((2, 2, 7), places, strict=True)
    ]


def make_bop(root: Path, splits: tuple[str, ...] = ("test",)) -> Path:
    """Write the dataset to `root`; depth images are in tenths of millimetres."""
    meshes = {2: BOX, 7: CYLINDER}
    write_models(root / "models_eval", meshes, INFO)
    for split in splits:
        images = {image: poses(image) for image in (0, 4, 5)}
        write_scene(root / split / "000003", meshes, images)
    targets = [
        {"scene_id": 3, "im_id": image, "obj_id": number, "inst_count": count}
        for image in (0, 4, 5)
        for number, count in ((2, 2), (7, 1))
    ]
    (root / "test_targets_bop19.json").write_text(json.dumps(targets))
    return root


def write_models(
    folder: Path, meshes: Mapping[int, trimesh.Trimesh], infos: Mapping[str, Any] = {}
) -> None:
    """Write models, whose `infos` are their diameters by default."""
    folder.mkdir(parents=True)
    found: dict[str, Any] = {}
    for number, mesh in meshes.items():
        mesh.export(folder / f"obj_{number:06d}.ply")
        found[str(number)] = {"diameter": float(pdist(np.asarray(mesh.vertices)).max())}
    (folder / "models_info.json").write_text(json.dumps(found | {**infos}))


def write_scene(
    scene: Path,
    meshes: Mapping[int, trimesh.Trimesh],
    images: Mapping[int, Sequence[Placed]],
    *,
    cameras: Mapping[int, Array] = {},
    depth_scale: float = DEPTH_SCALE,
    colours: str = "rgb",
) -> None:
    """Write a scene: objects before a wall, noise as colours; cameras of some images."""
    for folder in (colours, "depth", "mask_visib"):
        (scene / folder).mkdir(parents=True)
    stored: dict[str, dict[int, Any]] = {"camera": {}, "gt": {}, "gt_info": {}}
    for image, objects in images.items():
        camera = cameras.get(image, CAMERA)
        depth, front = rendered(meshes, objects, camera)
        shape = SIZE if colours == "gray" else (*SIZE, 3)
        noise = np.random.default_rng(image).integers(0, 255, shape, np.uint8)
        cv2.imwrite(str(scene / f"{colours}/{image:06d}.png"), noise)
        values = (depth / depth_scale).round().astype(np.uint16)
        cv2.imwrite(str(scene / f"depth/{image:06d}.png"), values)
        stored["camera"][image] = {"cam_K": camera.ravel().tolist(), "depth_scale": depth_scale}
        stored["gt"][image] = [
            {
                "obj_id": number,
                "cam_R_m2c": pose[:, :3].ravel().tolist(),
                "cam_t_m2c": pose[:, 3].tolist(),
            }
            for number, pose in objects
        ]
        stored["gt_info"][image] = [{"visib_fract": 1.0} for _ in objects]
        for index in range(len(objects)):
            mask = ((front == index + 1) * 255).astype(np.uint8)
            cv2.imwrite(str(scene / f"mask_visib/{image:06d}_{index:06d}.png"), mask)
    for name, content in stored.items():
        (scene / f"scene_{name}.json").write_text(json.dumps(content))


def rendered(
    meshes: Mapping[int, trimesh.Trimesh], objects: Sequence[Placed], camera: Array
) -> tuple[Array, Array]:
    """Depth (H, W) in mm, and 1 + the object of each pixel, 0 the wall."""
    layers = [
        render_depth(
            np.asarray(meshes[number].vertices) @ pose[:, :3].T + pose[:, 3],
            np.asarray(meshes[number].faces),
            camera,
            SIZE,
        )
        for number, pose in objects
    ]
    wall = np.full(SIZE, 1200.0)
    stacked = np.stack([wall, *(np.where(layer > 0, layer, np.inf) for layer in layers)])
    return stacked.min(axis=0), stacked.argmin(axis=0)


def write_results(path: Path, *, shift: float = 0.0, flip: bool = False) -> Path:
    """Results with the true poses, moved by `shift` mm, boxes turned into a symmetric pose."""
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for image in (0, 4, 5):
        for index, (number, pose) in enumerate(poses(image)):
            rotation = pose[:, :3] @ np.diag([1, -1, -1]) if flip and number == 2 else pose[:, :3]
            r = " ".join(f"{value:.9f}" for value in rotation.ravel())
            t = " ".join(f"{value:.6f}" for value in pose[:, 3] + [shift, 0, 0])
            lines.append(f"3,{image},{number},0.{9 - index},{r},{t},0.5")
    path.write_text("\n".join(lines))
    return path


def encode(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A mask's lengths of runs of 0, 1, 0, … down its columns."""
    flat = mask.astype(bool).ravel(order="F")
    ends = [*(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    counts = np.diff([0, *ends]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def to_shards(split: Path, *, each: int = 2, index: bool = True) -> None:
    """Replace a split's folders of scenes by webdataset shards of `each` images."""
    members: dict[str, dict[str, bytes]] = {}
    for scene in sorted(split.iterdir()):
        for name in ("camera", "gt", "gt_info"):
            for image, content in json.loads((scene / f"scene_{name}.json").read_text()).items():
                key = f"{scene.name}_{int(image):06d}"
                members.setdefault(key, {})[f"{name}.json"] = json.dumps(content).encode()
        for key, parts in members.items():
            stem = key.split("_")[1]
            for part in ("rgb", "depth"):
                parts[f"{part}.png"] = (scene / part / f"{stem}.png").read_bytes()
            masks = sorted(scene.glob(f"mask_visib/{stem}_*.png"))
            encoded = {i: encode(read_mask(path)) for i, path in enumerate(masks)}
            parts["mask_visib.json"] = json.dumps(encoded).encode()
        shutil.rmtree(scene)
    numbers = {key: place // each for place, key in enumerate(members)}
    for number in set(numbers.values()):
        with tarfile.open(split / f"shard-{number:06d}.tar", "w") as tar:
            for key, parts in members.items():
                for name, data in parts.items() if numbers[key] == number else ():
                    entry = tarfile.TarInfo(f"{key}.{name}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    if index:
        (split / "key_to_shard.json").write_text(json.dumps(numbers))


def box(low: Any, size: Any) -> Any:
    """A box with vertices all over its faces."""
    mesh = trimesh.creation.box(np.asarray(size, float))
    mesh.apply_translation(np.asarray(low, float) + np.asarray(size, float) / 2)
    return mesh.subdivide().subdivide()


def in_a_row(numbers: Any, seed: int = 0, distance: float = 900.0) -> list[Placed]:
    """Objects beside each other in the view."""
    turns = Rotation.random(len(numbers), random_state=seed).as_matrix()
    return [
        (n, np.column_stack([turn, [130 * (i % 4 - 1.5), 220 * (i // 4 - 0.5), distance]]))
        for i, (n, turn) in enumerate(zip(numbers, turns, strict=True))
    ]


def evaluated(command: str, folder: Path) -> Any:
    """The scores that a command writes."""
    output = f"--output {folder} --json {folder / 'scores.json'} {SMALL}"
    assert exit_code(f"eval {command} {output}") == 0
    return read(folder / "scores.json")


def check_training_sample(name: str, root: Path, count: int) -> None:
    """Check that a dataset gives samples of `count` objects."""
    cfg = compose(name, root=root, pairs=SMALL.split())
    sample = build.training_set(cfg, sources.open_source(cfg))[0, 1]
    labels = sample.targets.labels.numpy()
    assert len(np.unique(labels)) == count + 1
    offsets = sample.targets.keypoint_offsets.numpy()  # within the object, in metres
    assert 0.01 < np.abs(offsets[labels > 0]).max() < 0.4
    assert not offsets[labels == 0].any()
