"""LineMOD for one network of several objects, and Occlusion-LineMOD, in LineMOD's layout."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_image, read_lines, read_single_channel
from ffreid.errors import UserError
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import Frame, check_same_size
from ffreid.pose.data.linemod import LinemodReader
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.objects import ObjectModels

OCCLUSION = (1, 5, 6, 8, 9, 10, 11, 12)
"""Numbers of Occlusion-LineMOD's eight objects, in the frames of benchvise (2)."""
MASK_UNIT = 255 / 12
"""Value of an object's pixels in a merged mask, divided by its number."""


def single(objects: ObjectModels, class_id: int) -> ObjectModels:
    """The objects of a network for one of several."""
    row = slice(class_id - 1, class_id)
    return replace(
        objects,
        names=objects.names[row],
        numbers=objects.numbers[row],
        keypoints=objects.keypoints[row],
        corners=objects.corners[row],
        diameters=None if objects.diameters is None else objects.diameters[row],
        symmetric=frozenset({1} & {class_id in objects.symmetric}),
    )


class LinemodObjectsReader:
    """Frames of one or several LineMOD objects, each of the folder of one of them.

    A frame's labels and poses are of its folder's object alone; others in it are background, as the
    dataset has no masks of them. Each object is drawn equally often.
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
        if len(objects) > 1 and (lists := [path for path in (train_list, test_list) if path]):
            raise UserError(
                f"{lists[0]} is a list of frames of one object, not of {len(objects)}",
                "remove DATA.TRAIN_LIST and DATA.TEST_LIST, or use --cls with one object",
            )
        self.objects = objects
        self.readers = [
            LinemodReader(
                folder,
                single(objects, class_id),
                intrinsics=intrinsics,
                train_list=train_list,
                test_list=test_list,
            )
            for class_id in objects.class_ids
        ]
        self.folder = self.readers[0].folder

    @cached_property
    def train_names(self) -> list[str]:
        """All training frames."""
        return [name for reader in self.readers for name in reader.train_names]

    @cached_property
    def real_train_names(self) -> list[str]:
        """Real training frames."""
        return [name for reader in self.readers for name in reader.real_train_names]

    @cached_property
    def test_names(self) -> list[str]:
        """Real test frames."""
        return [name for reader in self.readers for name in reader.test_names]

    def summary(self) -> str:
        """One line on the frames."""
        if len(self.readers) == 1:
            return self.readers[0].summary()
        real, every = len(self.real_train_names), len(self.train_names)
        text = f"{real} real, {every - real} rendered and fused training frames"
        text += f", {len(self.test_names)} test frames of {len(self.objects)} objects"
        if every == real:
            text += "; the published accuracy needs renders/ and fuse/, which are missing"
        return text

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame of an object."""
        return self._any(rng).draw(rng)

    def draw_real(self, rng: np.random.RandomState) -> str:
        """Draw a real training frame of an object."""
        return self._any(rng).draw_real(rng)

    def read(self, name: str) -> Frame:
        """Read a frame."""
        class_id = self._class_of(name)
        frame = self.readers[class_id - 1].read(name)
        if class_id == 1:
            return frame
        return replace(
            frame, labels=frame.labels * class_id, class_ids=frame.class_ids * np.int32(class_id)
        )

    def files(self, name: str) -> list[Path]:
        """The files of a frame."""
        return self.readers[self._class_of(name) - 1].files(name)

    def read_meshes(self) -> Meshes:
        """Read the vertices of the objects."""
        return {
            class_id: reader.read_meshes()[1]
            for class_id, reader in enumerate(self.readers, start=1)
        }

    def _any(self, rng: np.random.RandomState) -> LinemodReader:
        if len(self.readers) == 1:  # the same random numbers as the original
            return self.readers[0]
        return self.readers[rng.randint(0, len(self.readers))]

    def _class_of(self, name: str) -> int:
        """The class of the object whose folder a frame is in."""
        if len(self.readers) == 1:
            return 1
        kind, _, rest = name.partition("/")
        home = rest.partition("/")[0]
        for class_id, reader in enumerate(self.readers, start=1):
            if home == (f"{reader.number:02d}" if kind == "data" else reader.objects.names[0]):
                return class_id
        raise UserError(
            f"{name} is not a frame of {', '.join(self.objects.names)}",
            "name frames like data/01/0185",
        )


class OcclusionReader:
    """Occlusion-LineMOD: frames of ``data/02`` that have one of its eight objects.

    Only for evaluation. gt.yml has the poses of all objects; labels are read from
    ``data/02/merged_masks`` (values round(255 number / 12)) where that is, and needed by
    ``--test-gt`` only.
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
        bench = replace(single(objects, 1), names=("benchvise",), numbers=(2,))
        self.scene = LinemodReader(folder, bench, intrinsics=intrinsics)
        self.folder, self.objects, self.test_list = self.scene.folder, objects, test_list
        self.masks = self.scene.home / "merged_masks"

    @property
    def train_names(self) -> list[str]:
        """None: it is a test set."""
        raise UserError(
            f"Occlusion-LineMOD in {self.scene.home} has no training frames",
            "train with --dataset linemod --cls all, or on BOP's lmo",
        )

    real_train_names = train_names

    @cached_property
    def test_names(self) -> list[str]:
        """The frames of the list, else of gt.yml."""
        if self.test_list is not None:
            return [f"data/02/{line.split('/')[-1]}" for line in read_lines(self.test_list)]
        return [
            f"data/02/{number:04d}"
            for number in sorted(self.scene.poses)
            if {*OCCLUSION} & {*self.scene.numbers(number)}
        ]

    def summary(self) -> str:
        """One line on the frames."""
        return f"{len(self.test_names)} test frames of {self.scene.home}"

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame: there is none."""
        return self.train_names[0]

    draw_real = draw

    def files(self, name: str) -> list[Path]:
        """Colour, depth, mask (if there are any), gt.yml and info.yml (if used)."""
        colour, depth, _, *rest = self.scene.files(name)
        mask = self.masks / colour.name
        return [colour, depth, *([mask] if self.masks.is_dir() else []), *rest]

    def read(self, name: str) -> Frame:
        """Read a frame."""
        colour, depth_file, *rest = self.files(name)
        frame = int(colour.stem)
        rgb = read_image(colour, registered=True)
        depth = read_single_channel(depth_file, "depth image").astype(np.float32)
        labels = np.zeros(depth.shape, np.int32)
        if self.masks.is_dir():
            mask = read_single_channel(rest[0], "mask", first_of_several=True)
            check_same_size({colour: rgb, depth_file: depth, rest[0]: mask})
            values = np.round(mask / MASK_UNIT).astype(int)
            for class_id, number in enumerate(self.objects.numbers, start=1):
                labels[values == number] = class_id
        poses, class_ids = self._poses(frame)
        intrinsics, stored, scale = self.scene.camera(frame)
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth,
            depth_scale=scale,
            labels=labels,
            intrinsics=intrinsics,
            class_ids=class_ids,
            camera_from_object=poses,
            stored_intrinsics=stored,
        )

    def read_meshes(self) -> Meshes:
        """Read the vertices of the objects."""
        numbers: Sequence[int] = self.objects.numbers
        return {
            class_id: self.scene.read_mesh(number) for class_id, number in enumerate(numbers, 1)
        }

    def _poses(self, frame: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """The poses (M, 3, 4) and classes (M,) of the objects in a frame."""
        there = {*self.scene.numbers(frame)}
        found = {
            class_id: self.scene.poses_of(frame, number)
            for class_id, number in enumerate(self.objects.numbers, start=1)
            if number in there
        }
        ids = [class_id for class_id, poses in found.items() for _ in poses]
        poses = np.concatenate([np.zeros((0, 3, 4), np.float32), *found.values()])
        return poses, np.array(ids, np.int32)
