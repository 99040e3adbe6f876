"""Frames of a BOP dataset: a scene drawn, measured and written."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.atomic import partial_file
from ffreid.pose.render.meshes import Floats, read_objects, solids
from ffreid.pose.render.renderers import Image, Renderer, Window
from ffreid.pose.render.scenes import Body, Composer, Scene, instances
from ffreid.pose.render.sensor import sense_colour, sense_depth
from ffreid.pose.render.textures import Textures

PER_SCENE = 1000
ATTEMPTS = 20
"""Scenes that are drawn at most until one shows an object."""
PARTS = ".render"
"""Folder with the truth of each frame until it is in the files of its scene."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Setup:
    """What frames depend on, but for their numbers; `depth_scale` is in units per metre."""

    objects: Path
    intrinsics: tuple[float, float, float, float]
    size: tuple[int, int]
    depth_scale: float
    seed: int
    instances: int
    noise: bool
    renderer: str
    views: str = "all"

    @property
    def matrix(self) -> Floats:
        """(3, 3) camera matrix, pixels."""
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


class FrameWriter:
    """Draws frames of a dataset in `folder`, each from its own random numbers."""

    def __init__(self, setup: Setup, folder: Path, renderer: Renderer) -> None:
        self.setup, self.folder, self.renderer = setup, folder, renderer
        self.composer = Composer(
            read_objects(setup.objects),
            solids(),
            Textures(setup.seed),
            intrinsics=setup.matrix,
            size=setup.size,
            instances=setup.instances,
            front=setup.views == "front",
        )

    def draw(self, split: str, number: int) -> tuple[Scene, Image, np.random.Generator]:
        """Draw the scene of a frame that shows an object, if one of 20 does."""
        rng = np.random.default_rng([self.setup.seed, zlib.crc32(split.encode()), number])
        for _ in range(ATTEMPTS):
            scene = self.composer.compose(rng)
            image = self.renderer.render(scene)
            if np.isin(image.labels, [label for label, _ in instances(scene)]).any():
                break
        return scene, image, rng

    def write(self, split: str, number: int) -> None:
        """Write a frame's images and, at last, its truth."""
        scene, image, rng = self.draw(split, number)
        rgb, depth = image.rgb, image.depth
        if self.setup.noise:
            rgb = sense_colour(image.rgb, rng)
            depth = sense_depth(image, self.setup.intrinsics[0], rng)
        units = np.rint(depth * self.setup.depth_scale)
        raw = np.where(units > np.iinfo(np.uint16).max, 0, units).astype(np.uint16)
        folder = scene_folder(self.folder, split, number)
        for name in ("rgb", "depth", "mask", "mask_visib"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        stem = f"{number % PER_SCENE:06d}"
        _write_png(folder / f"rgb/{stem}.png", rgb[:, :, ::-1])
        _write_png(folder / f"depth/{stem}.png", raw)
        truth, infos = list[dict[str, Any]](), list[dict[str, Any]]()
        for label, body in instances(scene):
            visible = image.labels == label
            info, mask = self._measure(scene, body, visible, raw)
            if not mask.any():
                continue  # outside the image
            name = f"{stem}_{len(truth):06d}.png"
            _write_png(folder / "mask" / name, mask.astype(np.uint8) * 255)
            _write_png(folder / "mask_visib" / name, visible.astype(np.uint8) * 255)
            pose = scene.camera_from_body(body)
            truth.append(
                {
                    "cam_R_m2c": pose[:, :3].ravel().tolist(),
                    "cam_t_m2c": (1000 * pose[:, 3]).tolist(),
                    "obj_id": body.mesh.number,
                }
            )
            infos.append(info)
        camera = {
            "cam_K": self.setup.matrix.ravel().tolist(),
            "cam_R_w2c": scene.camera_from_world[:, :3].ravel().tolist(),
            "cam_t_w2c": (1000 * scene.camera_from_world[:, 3]).tolist(),
            "depth_scale": 1000 / self.setup.depth_scale,
        }
        part = part_file(self.folder, split, number)
        part.parent.mkdir(parents=True, exist_ok=True)
        temporary = partial_file(part)
        temporary.write_text(json.dumps({"camera": camera, "gt": truth, "gt_info": infos}))
        temporary.replace(part)

    def _measure(
        self, scene: Scene, body: Body, visible: Mask, depth: npt.NDArray[np.uint16]
    ) -> tuple[dict[str, Any], Mask]:
        """BOP's scene_gt_info of an instance, and its mask within the image.

        As there, what lies outside the image, up to its own size, counts as hidden.
        """
        height, width = scene.size
        left, top, across, down = _window(scene, body)
        alone = self.renderer.silhouette(scene, body, (left, top, across, down))
        mask = np.zeros_like(visible)
        rows = slice(max(top, 0), min(top + down, height))
        columns = slice(max(left, 0), min(left + across, width))
        if rows.start < rows.stop and columns.start < columns.stop:
            mask[rows, columns] = alone[rows.start - top :, columns.start - left :][
                : rows.stop - rows.start, : columns.stop - columns.start
            ]
        # Both are drawn by the same rules, but for rounding at edges.
        whole = int(alone.sum()) + int((visible & ~mask).sum())
        mask |= visible
        seen = int(visible.sum())
        x, y, w, h = _box(alone)
        info = {
            "bbox_obj": [x + left, y + top, w, h] if w > 0 else [-1] * 4,
            "bbox_visib": _box(visible),
            "px_count_all": whole,
            "px_count_valid": int((depth[mask] > 0).sum()),
            "px_count_visib": seen,
            "visib_fract": seen / whole if whole else 0.0,
        }
        return info, mask


def scene_folder(root: Path, split: str, number: int) -> Path:
    """``SPLIT/000000`` of a frame."""
    return root / split / f"{number // PER_SCENE:06d}"


def part_file(root: Path, split: str, number: int) -> Path:
    """The truth of a frame that is complete."""
    return root / PARTS / split / f"{number // PER_SCENE:06d}" / f"{number % PER_SCENE}.json"


def _write_png(path: Path, image: npt.NDArray[np.unsignedinteger]) -> None:
    encoded, content = cv2.imencode(".png", image)  # other compressions are slower, or no smaller
    assert encoded
    path.write_bytes(content.tobytes())


def _window(scene: Scene, body: Body) -> Window:
    """Around a body, in the image and up to its size around it."""
    height, width = scene.size
    pose = scene.camera_from_body(body)
    points = body.mesh.vertices @ pose[:, :3].T + pose[:, 3]
    if points[:, 2].min() < 0.02:
        return -width, -height, 3 * width, 3 * height
    projected = points @ scene.intrinsics.T
    places = projected[:, :2] / projected[:, 2:]
    size = np.array([width, height])
    low = np.floor(places.min(axis=0) - 1).clip(-size, 2 * size - 1).astype(int)
    high = np.ceil(places.max(axis=0) + 2).clip(-size + 1, 2 * size).astype(int)
    across, down = (high - low).tolist()
    return int(low[0]), int(low[1]), across, down


def _box(mask: Mask) -> list[int]:
    """BOP's bounding box: x, y, width, height; -1 of nothing."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return [x, y, width, height] if width else [-1] * 4
