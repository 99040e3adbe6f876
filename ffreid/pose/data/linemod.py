"""LineMOD in the layout of ``Linemod_preprocessed``, one object at a time.

``data/NN/{rgb,depth,mask}/FFFF.png`` with ``gt.yml``, ``train.txt`` and ``test.txt`` are real
frames (depth in millimetres); ``renders/<object>/*.pkl`` and ``fuse/<object>/*.pkl`` hold rendered
and pasted ones. NN is the object's number.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.config import FastLoader, parse_yaml
from ffreid.engine.dataset_files import find_folder, read_image, read_lines, read_single_channel
from ffreid.errors import UserError, flat
from ffreid.files import regular
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import Frame, check_poses, check_same_size
from ffreid.pose.data.meshes import Meshes, read_linemod_mesh
from ffreid.pose.data.pickles import read_arrays
from ffreid.pose.defaults import LAYOUTS
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

FOLDER_NAMES = ("linemod/Linemod_preprocessed", "Linemod_preprocessed", "linemod", "LINEMOD")
LAYOUT = LAYOUTS["linemod"].files
MILLIMETRES = 1000.0


class LinemodReader:
    """Frames of one LineMOD object (`linemod_objects`), whose pixels have label 1.

    `folder` is the dataset's folder or its parent; the lists, a frame number per line, replace
    ``train.txt`` and ``test.txt``. They are read when first used: testing needs no training list.
    Rendered and fused frames have names like ``renders/ape/0.pkl``.
    """

    policy: Policy = "linemod"
    fill_holes = False

    def __init__(
        self,
        folder: Path,
        objects: ObjectModels,
        *,
        train_list: Path | None = None,
        test_list: Path | None = None,
    ) -> None:
        self.folder = find_folder(folder, FOLDER_NAMES, ("data", "renders", "fuse"), LAYOUT)
        self.objects = objects
        self.number = objects.numbers[0]
        self.home = self.folder / "data" / f"{self.number:02d}"
        if not self.home.is_dir():
            raise UserError(f"no folder {self.home}", f"expected {LAYOUT}")
        self.train_list = train_list or self.home / "train.txt"
        self.test_list = test_list or self.home / "test.txt"
        self.render_names, self.fuse_names = (
            [
                str(path.relative_to(self.folder))
                for path in sorted((self.folder / kind / objects.names[0]).glob("*.pkl"))
            ]
            for kind in ("renders", "fuse")
        )

    @cached_property
    def real_train_names(self) -> list[str]:
        """Real training frames."""
        return self._real_names(self.train_list)

    @cached_property
    def test_names(self) -> list[str]:
        """Real test frames, e.g. ``data/01/0185``."""
        return self._real_names(self.test_list)

    @cached_property
    def train_names(self) -> list[str]:
        """All training frames: real, rendered and fused."""
        return self.real_train_names + self.render_names + self.fuse_names

    def summary(self) -> str:
        """One line on the frames."""
        text = f"{len(self.real_train_names)} real, {len(self.render_names)} rendered, "
        text += f"{len(self.fuse_names)} fused training frames, {len(self.test_names)} test frames"
        if not self.render_names and not self.fuse_names:
            text += "; the published accuracy needs renders/ and fuse/, which are missing"
        return text

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame: real 30 %, else fused 40 % and rendered 60 %, where all exist."""
        if not (self.render_names or self.fuse_names) or (
            self.real_train_names and rng.rand() < 0.3
        ):
            return self.draw_real(rng)
        if not self.render_names or (self.fuse_names and rng.rand() < 0.4):
            return self.fuse_names[rng.randint(0, len(self.fuse_names))]
        return self.render_names[rng.randint(0, len(self.render_names))]

    def draw_real(self, rng: np.random.RandomState) -> str:
        """Draw a real training frame."""
        return self.real_train_names[rng.randint(0, len(self.real_train_names))]

    def read(self, name: str) -> Frame:
        """Read a frame by its name in one of the lists."""
        if name.startswith("data/"):
            return self._read_real(name)
        return _read_pickle(self.folder / name, name, self.number)

    def files(self, name: str) -> list[Path]:
        """Colour, depth, mask and gt.yml of a real frame, the pickle of another."""
        if not name.startswith("data/"):
            return [self.folder / name]
        stem = name.rpartition("/")[2]
        images = [self.home / part / f"{stem}.png" for part in ("rgb", "depth", "mask")]
        return [*images, self.home / "gt.yml"]

    def read_meshes(self) -> Meshes:
        """Read the vertices of the object."""
        return {1: read_linemod_mesh(self.folder, self.number)}

    @cached_property
    def poses(self) -> dict[int, list[dict[str, Any]]]:
        """The parsed gt.yml: frame number to its objects."""
        path = self.home / "gt.yml"
        try:
            parsed = parse_yaml(regular(path).read_bytes(), FastLoader)
        except FileNotFoundError as error:
            raise UserError(f"no file {path}", f"expected {LAYOUT}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {flat(str(error))}", "copy it again") from error
        if not isinstance(parsed, dict):
            raise UserError(f"{path} contains no frames", "expected 'FRAME: [{cam_R_m2c: …}]'")
        return parsed

    def _read_real(self, name: str) -> Frame:
        *paths, _ = self.files(name)
        rgb = read_image(paths[0], registered=True)
        depth = read_single_channel(paths[1], "depth image")
        mask = read_single_channel(paths[2], "label image", first_of_several=True)
        check_same_size(dict(zip(paths, (rgb, depth, mask), strict=True)))
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth.astype(np.float32),
            depth_scale=MILLIMETRES,
            labels=(mask > 0).astype(np.int32),
            intrinsics=np.array(resource("linemod")["intrinsics"]["linemod"], np.float64),
            class_ids=np.ones(1, np.int32),
            camera_from_object=self._pose(int(name.rpartition("/")[2]))[None],
        )

    def _pose(self, frame: int) -> npt.NDArray[np.float32]:
        """The object's pose, or that of the first entry where none has its number."""
        path = self.home / "gt.yml"
        entries = self.poses.get(frame) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(
                f"{path}: frame {frame} is not a list of objects",
                "expected 'FRAME: [{cam_R_m2c: …, cam_t_m2c: …, obj_id: …}]'",
            )
        if not entries:
            raise UserError(
                f"{path} has no pose of object {self.number} in frame {frame}",
                "remove the frame from the list, or complete the file",
            )
        entry = next((e for e in entries if e.get("obj_id") == self.number), entries[0])
        try:
            rotation = np.array(entry["cam_R_m2c"], np.float64).reshape(3, 3)
            translation = np.array(entry["cam_t_m2c"], np.float64).reshape(3, 1) / 1000
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: frame {frame} lacks a pose",
                "an entry has cam_R_m2c (9 numbers) and cam_t_m2c (3, millimetres)",
            ) from error
        pose = np.concatenate([rotation, translation], axis=1).astype(np.float32)
        check_poses(path, pose)
        return pose

    def _real_names(self, path: Path) -> list[str]:
        lines = [Path(line).name for line in read_lines(path)]
        if wrong := [line for line in lines if not line.isdigit()]:
            raise UserError(
                f"{path}: '{wrong[0]}' is not a frame number", "write one number per line: 0185"
            )
        return [f"data/{self.number:02d}/{line}" for line in lines]


def _read_pickle(path: Path, name: str, number: int) -> Frame:
    """Read a rendered or fused frame: depth in metres, label 1 where the mask is the object's."""
    item = read_arrays(path, ("rgb", "depth", "mask", "K", "RT", "rnd_typ"))
    mask = np.asarray(item["mask"])
    mask = mask[..., 0] if mask.ndim == 3 else mask
    foreground = mask == number if item["rnd_typ"] == "fuse" else mask > 0
    try:
        rgb, depth = np.asarray(item["rgb"], np.uint8), np.asarray(item["depth"], np.float32)
        pose, intrinsics = np.asarray(item["RT"], np.float64), np.asarray(item["K"], np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {flat(str(error))}", "rgb, depth, K and RT must be numbers"
        ) from error
    check_same_size({path / "rgb": rgb, path / "depth": depth, path / "mask": mask})
    if rgb.ndim != 3 or depth.ndim != 2 or pose.shape != (3, 4) or intrinsics.shape != (3, 3):
        raise UserError(
            f"{path}: rgb {rgb.shape}, depth {depth.shape}, RT {pose.shape}, K {intrinsics.shape}",
            "expected rgb (H, W, 3), depth and mask (H, W), RT (3, 4), K (3, 3)",
        )
    check_poses(path, pose)
    return Frame(
        name=name,
        rgb=rgb[..., :3],
        depth=depth * np.float32(MILLIMETRES),
        depth_scale=MILLIMETRES,
        labels=foreground.astype(np.int32),
        intrinsics=intrinsics,
        class_ids=np.ones(1, np.int32),
        camera_from_object=pose[None].astype(np.float32),
        synthetic=True,
    )
