"""``ffreid data --check``: each planted mistake is found with its remedy, sound data have none."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import loadmat, savemat

import ffreid
from ffreid.pose import sources
from ffreid.pose.data.meshes import read_ply
from ffreid.pose.dataset_check import check_dataset
from ffreid.pose.objects import linemod_objects
from ffreid.pose.toy.dataset import toy_object_models
from ffreid.recipes import compose
from tests.makers import linemod_folder, toy_folder
from tests.pose.planting import Array, Plant, change, resave
from tests.pose.realdata import real_folder

TRAIN, TEST = "data/0000/000001", "data/0048/000001"


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "toy-pose": toy_folder(tmp_path_factory.mktemp("toy")),
        "linemod": with_keypoints(linemod_folder(tmp_path_factory.mktemp("linemod"))),
    }


@pytest.fixture(scope="module", autouse=True)
def _toy_objects_once() -> Iterator[None]:
    """Do not sample the toy objects' keypoints for every check."""
    with pytest.MonkeyPatch.context() as patch:
        models = toy_object_models("toy-pose")
        patch.setattr(sources, "toy_object_models", lambda *_: models)
        yield


def with_keypoints(root: Path) -> Path:
    """Add the ape's keypoints to the mesh of an ellipsoid of its size."""
    path = root / "models/obj_01.ply"
    header, vertices = path.read_text().split("end_header\n")
    more = linemod_objects("ape").keypoints[0] * 1000
    vertices += "".join(" ".join(map(str, point)) + "\n" for point in more.tolist())
    path.write_text(header.replace("vertex 1000", "vertex 1008") + "end_header\n" + vertices)
    return root


def check(dataset: str, root: Path, *pairs: str) -> dict[str, Any]:
    cls = "ape" if dataset == "linemod" else None
    sizes = ["DATA.TOY.TRAIN", "4", "DATA.TOY.TEST", "2", "DATA.TOY.SYNTHETIC", "2"]
    return check_dataset(compose(dataset, root=root, cls=cls, pairs=[*sizes, *pairs])).payload()


def rotated(root: Path) -> None:
    path = next(root.rglob(f"{TRAIN}-color.png"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)


def meta(edit: Callable[[dict[str, Any]], object], pattern: str = "*-meta.mat") -> Plant:
    """Change the meta.mat files whose names match."""

    def plant(root: Path) -> None:
        paths = sorted(root.rglob(pattern))
        assert paths
        for path in paths:
            values = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
            edit(values)
            savemat(path, values)

    return plant


def poses(edit: Callable[[Array], Array], pattern: str = "*-meta.mat") -> Plant:
    """Change poses (M, 3, 4)."""

    def change_poses(values: dict[str, Any]) -> None:
        values["poses"] = edit(values["poses"].transpose(2, 0, 1).copy()).transpose(1, 2, 0)

    return meta(change_poses, pattern)


def translated(pose: Array, factor: float = 1.0, shift: float = 0.0) -> Array:
    return np.concatenate([pose[:, :, :3], pose[:, :, 3:] * factor + shift], axis=2)


def transposed(pose: Array) -> Array:
    return np.concatenate([pose[:, :, :3].transpose(0, 2, 1), pose[:, :, 3:]], axis=2)


def inverted(pose: Array) -> Array:
    turned = pose[:, :, :3].transpose(0, 2, 1)
    return np.concatenate([turned, -turned @ pose[:, :, 3:]], axis=2)


def scale_camera(factor: float) -> Plant:
    return meta(
        lambda m: m.update(intrinsic_matrix=m["intrinsic_matrix"] * [[factor], [factor], [1]])
    )


def keep_first(values: dict[str, Any]) -> None:
    values.update(cls_indexes=values["cls_indexes"][:1], poses=values["poses"][..., :1])


def twice(values: dict[str, Any]) -> None:
    values["cls_indexes"] = np.concatenate([values["cls_indexes"], values["cls_indexes"][:1]])
    values["poses"] = np.concatenate([values["poses"], values["poses"][..., :1]], axis=2)


def mesh(edit: Callable[[Array], Array]) -> Plant:
    def plant(root: Path) -> None:
        path = root / "models/duck/points.xyz"
        np.savetxt(path, edit(np.loadtxt(path)), fmt="%.6f")

    return plant


def half_a_mesh(points: Array) -> Array:
    """Without the vertices around the keypoint at the top, but with the same bounding box."""
    top = points[:, 2] > 0.02
    corners = [points[points[:, axis].argmin()] for axis in (0, 1, 2)]
    return np.concatenate([points[~top], corners, [[0, 0, points[:, 2].max()]]])


def listed(name: str, split: str = "train") -> Plant:
    def plant(root: Path) -> None:
        with (root / f"dataset_config/{split}_data_list.txt").open("a") as file:
            file.write(f"\n{name}\n")

    return plant


def copied(root: Path) -> None:
    shutil.copy(root / f"{TRAIN}-color.png", root / f"{TEST}-color.png")


def cut(path: str) -> Plant:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:300])


def resize(array: Array) -> Array:
    return cv2.resize(array, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)


def smaller(root: Path) -> None:
    for part in ("color", "depth", "label"):
        change(f"{TEST}-{part}.png", resize)(root)
    scale = [[0.5], [0.5], [1]]
    meta(lambda m: m.update(intrinsic_matrix=m["intrinsic_matrix"] * scale), f"{TEST}-meta.mat")(
        root
    )


TOY: dict[str, tuple[Plant, str, str, str]] = {
    # what is planted, by: how, the check, what it says is wrong, how to mend it
    "depth ten times too small": (
        meta(lambda m: m.update(factor_depth=[[100000]])),
        "cameras", "depth in another unit", "multiply it by 10",
    ),
    "depth in millimetres": (
        change("*-depth.png", lambda d: (d // 10).astype(np.uint16)),
        "cameras", "depth in another unit", "multiply it by 10",
    ),
    "depth of another factor": (
        meta(lambda m: m.update(factor_depth=[[5000]])),
        "cameras", "depth in another unit", "divide it by 2",
    ),
    "depth of a frame in millimetres": (
        change(f"{TEST}-depth.png", lambda d: (d // 10).astype(np.uint16)),
        "cameras", "depth in another unit", "multiply it by 10",
    ),
    "poses in millimetres": (
        poses(lambda p: translated(p, 1000)), "poses", "poses in another unit", "divide t by 1000",
    ),
    "poses in centimetres": (
        poses(lambda p: translated(p, 100)), "poses", "poses in another unit", "divide t by 100",
    ),
    "poses of a frame in millimetres": (
        poses(lambda p: translated(p, 1000), f"{TEST}-meta.mat"),
        "poses", "poses in another unit", "divide t by 1000",
    ),
    "objects moved": (
        poses(lambda p: translated(p, shift=0.08)),
        "poses", "the mesh is not where the pose says", "in one object frame",
    ),
    "objects of a frame moved": (
        poses(lambda p: translated(p, shift=0.2), f"{TEST}-meta.mat"),
        "poses", "the mesh is not where the pose says", "in one object frame",
    ),
    "rotations transposed": (
        poses(transposed), "poses", "transposed rotations", "row by row",
    ),
    "poses inverted": (
        poses(inverted), "poses", "inverted poses", "of the object in the camera's frame",
    ),
    "poses of OpenGL": (
        poses(lambda p: p * [[1], [-1], [-1]]), "poses", "poses in OpenGL's axes", "negate",
    ),
    "intrinsics of half the size": (
        scale_camera(0.5), "cameras", "intrinsics of another resolution", "cx, cy by 2",
    ),
    "intrinsics of twice the size": (
        scale_camera(2), "cameras", "intrinsics of another resolution", "cx, cy by 0.5",
    ),
    "mesh in millimetres": (
        mesh(lambda p: p * 1000), "objects", "meshes that cannot be used", "divide the vertices",
    ),
    "mesh of another origin": (
        mesh(lambda p: p + 0.03), "objects", "meshes that cannot be used", "another origin",
    ),
    "keypoints outside the mesh": (
        mesh(half_a_mesh), "objects", "keypoints outside the mesh", "from this mesh",
    ),
    "label image of another size": (
        change(f"{TEST}-label.png", resize), "images", "cannot be used", "registered to each other",
    ),
    "depth of another size": (
        change(f"{TEST}-depth.png", resize), "images", "cannot be used", "registered to each other",
    ),
    "a frame of another size": (
        smaller, "images", "frames of another size", "resize them and their intrinsics",
    ),
    "no labels": (
        change(f"{TEST}-label.png", lambda a: a * 0),
        "labels", "without a labelled pixel", "store the label image",
    ),
    "unknown label": (
        change(f"{TEST}-label.png", lambda a: np.where(a == a.max(), 77, a).astype(np.uint8)),
        "images", "cannot be used", "check --dataset and the class list",
    ),
    "label without a pose": (
        meta(keep_first, f"{TEST}-meta.mat"),
        "labels", "objects without a pose", "add the poses",
    ),
    "an object twice": (
        meta(twice, f"{TEST}-meta.mat"), "poses", "an object twice", "each object once",
    ),
    "a pose that is NaN": (
        poses(lambda p: p * np.nan, f"{TEST}-meta.mat"), "images", "cannot be used", "repair",
    ),
    "a pose that mirrors": (
        poses(lambda p: p * [-1, 1, 1, 1], f"{TEST}-meta.mat"),
        "images", "cannot be used", "neither scale nor mirror",
    ),
    "damaged colour": (cut(f"{TEST}-color.png"), "images", "cannot be used", "copy or extract"),
    "colour missing": (
        lambda root: (root / f"{TEST}-color.png").unlink(),
        "images", "cannot be used", "complete the dataset",
    ),
    "grey": (
        resave(f"{TEST}-color.png", "L"), "images", "grey colour images", "store colours",
    ),
    "CMYK": (
        resave(f"{TEST}-color.png", "CMYK", format="JPEG", quality=95),
        "images", "CMYK", "convert them to RGB",
    ),
    "EXIF orientation": (rotated, "images", "cannot be used", "remove the mark"),
    "lossy depth": (
        resave(f"{TEST}-label.png", "L", format="JPEG"), "images", "cannot be used", "as PNG",
    ),
    "depth in three channels": (
        resave(f"{TEST}-depth.png", "RGB"), "images", "cannot be used", "single-channel PNG",
    ),
    "no depth": (
        change(f"{TEST}-depth.png", lambda a: a * 0),
        "images", "fewer than 400 measured pixels", "remove the frame",
    ),
    "one image in two frames": (copied, "duplicates", "in several frames", "remove the copies"),
    "a test frame for training": (
        listed(TEST), "duplicates", "training frames as well", "from one of the lists",
    ),
    "a training frame twice": (listed(TRAIN), "duplicates", "listed again", "each frame once"),
    "a test frame twice": (
        listed(TEST, "test"), "lists", "a list that cannot be used", "list each frame once",
    ),
    "no test list": (
        lambda root: (root / "dataset_config/test_data_list.txt").unlink(),
        "lists", "a list that cannot be used", "expected",
    ),
}  # fmt: skip


def written(path: str, edit: Callable[[Any], object]) -> Plant:
    """Change a YAML file of LineMOD's sequence."""

    def plant(root: Path) -> None:
        values = yaml.safe_load((root / "data/01" / path).read_text())
        edit(values)
        (root / "data/01" / path).write_text(yaml.safe_dump(values))

    return plant


def each_pose(edit: Callable[[dict[str, Any]], object]) -> Plant:
    return written(
        "gt.yml", lambda frames: [edit(e) for entries in frames.values() for e in entries]
    )


LINEMOD: dict[str, tuple[Plant, str, str, str]] = {
    "poses in metres": (
        each_pose(lambda e: e.update(cam_t_m2c=[v / 1000 for v in e["cam_t_m2c"]])),
        "poses", "poses in another unit", "multiply t by 1000",
    ),
    "depth in tenths of millimetres": (
        change("depth/*.png", lambda d: (d * 10).astype(np.uint16)),
        "cameras", "depth in another unit", "divide it by 10",
    ),
    "another camera": (
        written("info.yml", lambda frames: [
            e.update(cam_K=[v * 1.1 if v > 1 else v for v in e["cam_K"]]) for e in frames.values()
        ]),
        "cameras", "not used", "DATA.INTRINSICS meta",
    ),
    "mask of another size": (
        change("mask/0003.png", resize), "images", "cannot be used", "registered to each other",
    ),
    "an empty mask": (
        change("mask/0003.png", lambda a: a * 0),
        "labels", "without a labelled pixel", "store the label image or mask",
    ),
    "no pose": (
        written("gt.yml", lambda frames: frames.pop(3)),
        "images", "cannot be used", "remove the frame from the list",
    ),
    "a mesh in metres": (
        lambda root: write_mesh(root, lambda v: v / 1000),
        "objects", "meshes that cannot be used", "multiply the vertices by 1000",
    ),
    "a mesh of another object": (
        lambda root: write_mesh(root, lambda v: v[:1000]),
        "objects", "keypoints outside the mesh", "from this mesh",
    ),
}  # fmt: skip


def write_mesh(root: Path, edit: Callable[[Array], Array]) -> None:
    path = root / "models/obj_01.ply"
    vertices = edit(read_ply(path))
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"] + ["end_header"]
    path.write_text("\n".join([*lines, *(" ".join(map(str, v)) for v in vertices.tolist())]) + "\n")


@pytest.mark.parametrize(
    ("dataset", "planted"),
    [("toy-pose", name) for name in TOY] + [("linemod", name) for name in LINEMOD],
)
def test_a_planted_mistake_is_found_with_its_remedy(
    dataset: str, planted: str, trees: dict[str, Path], tmp_path: Path
) -> None:
    plant, *expected = (TOY if dataset == "toy-pose" else LINEMOD)[planted]
    plant(root := Path(shutil.copytree(trees[dataset], tmp_path / "data")))
    found = check(dataset, root)["mistakes"]
    assert len(found) == 1
    for text, name in zip(expected, ("check", "what", "mend"), strict=True):
        assert text in found[0][name]


def test_real_frames_have_no_mistakes() -> None:
    found = check("linemod", real_folder("Linemod_preprocessed"))
    assert found["mistakes"] == []
    assert found["frames"] == {"training": 1, "rendered": 0, "test": 1}


def test_the_python_api_finds_the_same_and_needs_a_folder(trees: dict[str, Path]) -> None:
    root = trees["linemod"]
    assert ffreid.check_dataset("linemod", root, cls="ape") == check("linemod", root)
    with pytest.raises(ffreid.UserError, match="no folder /nowhere"):
        ffreid.check_dataset("linemod", "/nowhere", cls="ape")


@pytest.mark.parametrize("dataset", ["toy-pose", "linemod"])
def test_sound_data_have_no_mistakes(dataset: str, trees: dict[str, Path]) -> None:
    found = check(dataset, trees[dataset])
    assert found["mistakes"] == []
    assert all(row["checked"] and not row["wrong"] for row in found["checks"])
