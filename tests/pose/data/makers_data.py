"""Writers of single frames in the real layouts, for the tests of this folder."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

Array = npt.NDArray[Any]


def write_ycb_frame(
    folder: Path,
    name: str,
    *,
    color: Array,
    depth: Array,
    label: Array,
    poses: Array,
    cls_indexes: Array,
    **more: Any,
) -> None:
    """Write ``<name>-{color,depth,label}.png`` and ``-meta.mat`` below `folder`."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(color).save(folder / f"{name}-color.png")
    Image.fromarray(depth.astype(np.uint16)).save(folder / f"{name}-depth.png")
    Image.fromarray(label.astype(np.uint8)).save(folder / f"{name}-label.png")
    meta = {
        "cls_indexes": np.reshape(cls_indexes, (-1, 1)),
        "poses": poses,
        "factor_depth": np.array([[10000]], np.uint16),
    }
    savemat(folder / f"{name}-meta.mat", meta | more)


def write_ycb_lists(folder: Path, train: list[str], test: list[str]) -> None:
    """Write both frame lists where the authors keep them."""
    (folder / "dataset_config").mkdir(parents=True, exist_ok=True)
    for which, names in (("train", train), ("test", test)):
        (folder / f"dataset_config/{which}_data_list.txt").write_text("\n".join(names))


def write_linemod_frame(home: Path, stem: str, *, rgb: Array, depth: Array, mask: Array) -> None:
    """Write ``{rgb,depth,mask}/<stem>.png`` below `home` (``…/data/NN``)."""
    for part, image in (("rgb", rgb), ("depth", depth.astype(np.uint16)), ("mask", mask)):
        (home / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / part / f"{stem}.png")


def write_linemod_lists(home: Path, train: list[str], test: list[str]) -> None:
    """Write train.txt and test.txt below `home`."""
    home.mkdir(parents=True, exist_ok=True)
    for which, names in (("train", train), ("test", test)):
        (home / f"{which}.txt").write_text("".join(f"{name}\n" for name in names))


def gt_entry(rotation: Array, translation_m: Array, number: int) -> str:
    """An object's entry in gt.yml."""
    numbers = ", ".join(repr(float(v)) for v in np.ravel(rotation))
    moved = ", ".join(repr(float(v) * 1000) for v in np.ravel(translation_m))
    return (
        f"- cam_R_m2c: [{numbers}]\n  cam_t_m2c: [{moved}]\n"
        f"  obj_bb: [0, 0, 1, 1]\n  obj_id: {number}\n"
    )


def write_pickle(path: Path, item: dict[str, Any]) -> None:
    """Write a rendered or fused frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(item, protocol=2))


def flat_scene(*, seed: int = 0) -> dict[str, Array]:
    """A bumpy wall 1 m away, 64 x 64 pixels, with a square of class 1."""
    rng = np.random.RandomState(seed)
    label = np.zeros((64, 64), np.uint8)
    label[16:32, 16:32] = 1
    return {
        "color": rng.randint(0, 256, (64, 64, 3)).astype(np.uint8),
        "depth": (10000 + rng.randint(-30, 30, (64, 64))).astype(np.uint16),
        "label": label,
        "poses": np.column_stack([np.eye(3), [0.0, 0.0, 1.0]])[..., None],
        "cls_indexes": np.array([1]),
    }
