"""LineMOD in the layout of ``Linemod_preprocessed``, one object at a time.

``data/NN/{rgb,depth,mask}/FFFF.png`` with ``gt.yml``, ``train.txt`` and ``test.txt`` are real
frames (depth in millimetres); ``renders/<object>/*.pkl`` and ``fuse/<object>/*.pkl`` hold rendered
and pasted ones. NN is the object's number.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import (
    find_folder,
    read_image,
    read_lines,
    read_mask,
    read_single_channel,
)
from ffreid.errors import UserError, flat
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import (
    Frame,
    camera_matrix,
    check_poses,
    check_same_size,
    check_unique,
)
from ffreid.pose.data.meshes import Meshes, read_linemod_mesh
from ffreid.pose.data.numbered import frame_number, read_numbered
from ffreid.pose.data.pickles import read_arrays
from ffreid.pose.defaults import LAYOUTS
from ffreid.pose.objects import ObjectModels
from ffreid.pose.resources import resource

FOLDER_NAMES = ("linemod/Linemod_preprocessed", "Linemod_preprocessed", "linemod", "LINEMOD")
LAYOUT = LAYOUTS["linemod"].files
MILLIMETRES = 1000.0
Matrix = npt.NDArray[np.float64]


class LinemodReader:
    """Frames of one LineMOD object (`linemod_objects`), whose pixels have label 1.

    `folder` is the dataset's folder or its parent; the lists, a frame number per line, replace
    ``train.txt`` and ``test.txt``. They are read when first used: testing needs no training list.
    Rendered and fused frames have names like ``renders/ape/0.pkl``. `intrinsics` is ``ycb`` for
    LineMOD's camera and millimetres, ``meta`` for every frame's cam_K and depth_scale in info.yml.
    """

    policy: Policy = "linemod"
    fill_holes = False

    def __init__(
        self,
        folder: Path,
        objects: ObjectModels,
        *,
        intrinsics: Literal["ycb", "meta"] = "ycb",
        train_list: Path | None = None,
        test_list: Path | None = None,
    ) -> None:
        self.folder = find_folder(folder, FOLDER_NAMES, ("data", "renders", "fuse"), LAYOUT)
        self.objects, self.own_camera = objects, intrinsics == "meta"
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
        names = self._real_names(self.test_list)
        check_unique(self.test_list, names)
        return names

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
        """Colour, depth, mask, gt.yml and info.yml (if used) of a real frame, else the pickle."""
        if not name.startswith("data/"):
            return [self.folder / name]
        stem = name.rpartition("/")[2]
        images = [self.home / part / f"{stem}.png" for part in ("rgb", "depth", "mask")]
        return [*images, self.home / "gt.yml"] + [self.home / "info.yml"] * self.own_camera

    def read_meshes(self) -> Meshes:
        """Read the vertices of the object."""
        return {1: self.read_mesh(self.number)}

    def read_mesh(self, number: int) -> npt.NDArray[np.float32]:
        """Read the vertices of any object."""
        return read_linemod_mesh(self.folder, number)

    @cached_property
    def poses(self) -> dict[int, Any]:
        """The parsed gt.yml: frame number to its objects, whose values are text."""
        return read_numbered(self.home / "gt.yml")

    @cached_property
    def cameras(self) -> dict[int, Any]:
        """The parsed info.yml: frame number to its camera; nothing if it is not used."""
        try:
            return read_numbered(self.home / "info.yml")
        except UserError:
            if self.own_camera:
                raise
            return {}

    def _read_real(self, name: str) -> Frame:
        stem = self._stem(name, "DATA.FRAMES")
        paths = self.files(name)[:3]
        rgb = read_image(paths[0], registered=True)
        depth, mask = read_single_channel(paths[1], "depth image"), read_mask(paths[2])
        check_same_size(dict(zip(paths, (rgb, depth, mask), strict=True)))
        poses = self.poses_of(int(stem), self.number)
        intrinsics, stored, scale = self.camera(int(stem))
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth.astype(np.float32),
            depth_scale=scale,
            labels=mask.astype(np.int32),
            intrinsics=intrinsics,
            class_ids=np.ones(len(poses), np.int32),
            camera_from_object=poses,
            stored_intrinsics=stored,
        )

    def camera(self, frame: int) -> tuple[Matrix, Matrix | None, float]:
        """The intrinsics in use, those in info.yml, and depth units per metre of a frame."""
        stored, units = self._camera(frame)
        if self.own_camera and stored is None:
            raise UserError(
                f"{self.home / 'info.yml'} has no camera of frame {frame}",
                "write 'FRAME: {cam_K: [fx, 0, cx, 0, fy, cy, 0, 0, 1], depth_scale: 1.0}'",
            )
        if self.own_camera and stored is not None:
            return stored, stored, units
        fixed = np.array(resource("linemod")["intrinsics"]["linemod"], np.float64)
        return fixed, stored, MILLIMETRES

    def _camera(self, frame: int) -> tuple[Matrix | None, float]:
        """A frame's cam_K (3, 3), None without a valid one, and depth units per metre."""
        try:
            entry = self.cameras[frame]
            matrix = camera_matrix(np.reshape(_floats(entry["cam_K"]), (3, 3)))
            return matrix, MILLIMETRES / float(entry.get("depth_scale", 1))
        except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            return None, MILLIMETRES

    def _entries(self, frame: int) -> list[dict[str, Any]]:
        """What gt.yml has of a frame."""
        entries = self.poses.get(frame) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(
                f"{self.home / 'gt.yml'}: frame {frame} is not a list of objects",
                "expected 'FRAME: [{cam_R_m2c: …, cam_t_m2c: …, obj_id: …}]'",
            )
        return entries

    def numbers(self, frame: int) -> list[int | None]:
        """The numbers of the objects that gt.yml has in a frame."""
        return [frame_number(entry.get("obj_id")) for entry in self._entries(frame)]

    def poses_of(self, frame: int, own_number: int) -> npt.NDArray[np.float32]:
        """An object's poses (M, 3, 4), metres; entries without any obj_id must be one."""
        path = self.home / "gt.yml"
        entries, numbers = self._entries(frame), self.numbers(frame)
        own = [e for e, number in zip(entries, numbers, strict=True) if number == own_number]
        if len(entries) == 1 and "obj_id" not in entries[0]:
            own = entries
        if not own:
            listed = ", ".join(str(number or "unnumbered") for number in numbers) or "none"
            raise UserError(
                f"{path} has no pose of object {own_number} in frame {frame} (objects: {listed})",
                "remove the frame from the list, or complete the file",
            )
        try:
            rotation = np.array([_floats(entry["cam_R_m2c"]) for entry in own]).reshape(-1, 3, 3)
            translation = np.array([_floats(entry["cam_t_m2c"]) for entry in own]) / 1000
            poses = np.concatenate([rotation, translation.reshape(-1, 3, 1)], axis=2)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: frame {frame} lacks a pose ({flat(str(error))})",
                "an entry has cam_R_m2c (9 numbers) and cam_t_m2c (3, millimetres)",
            ) from error
        check_poses(path, poses)
        return poses.astype(np.float32)

    def _real_names(self, path: Path) -> list[str]:
        lines = read_lines(path)
        return [f"data/{self.number:02d}/{self._stem(line, str(path))}" for line in lines]

    def _stem(self, name: str, where: str) -> str:
        """The frame number ``0185`` of ``0185``, ``01/0185`` or ``data/01/0185``."""
        *folders, stem = name.split("/")
        if not stem.isdecimal():
            raise UserError(
                f"{where}: '{stem}' is not a frame number", "write one number per line: 0185"
            )
        numbers = [int(part) for part in folders if part.isdecimal()]
        if numbers and numbers[-1] != self.number:
            raise UserError(
                f"{where}: {name} is not a frame of {self.objects.names[0]}, object {self.number}",
                f"list frames of {self.home}: masks and poses are read there",
            )
        return stem


def _floats(texts: Any) -> list[float]:
    return [float(text) for text in texts]


def _read_pickle(path: Path, name: str, number: int) -> Frame:
    """Read a rendered or fused frame: depth in metres, label 1 where the mask is the object's."""
    item = read_arrays(path, ("rgb", "depth", "mask", "K", "RT", "rnd_typ"))
    mask = np.asarray(item["mask"])
    foreground = mask == number if item["rnd_typ"] == "fuse" else mask > 0
    if mask.ndim == 3:
        foreground = foreground[..., :3].any(axis=2)
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
    check_poses(path, pose[None])
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
