"""Frames of a BOP dataset for training and evaluation."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_image, read_lines, read_single_channel
from ffreid.errors import UserError
from ffreid.files import Member
from ffreid.pose.bop.dataset import BopDataset, BopObject, numbered_models, splits
from ffreid.pose.bop.errors import canonical_pose
from ffreid.pose.bop.images import HINT, BopImage, Instance
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import Frame, check_same_size
from ffreid.pose.data.meshes import Meshes, check_mesh
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.object_set.read import read_objects
from ffreid.pose.objects import ObjectModels
from ffreid.pose.stored_objects import pack

KEYPOINTS = 8
_TRAIN = re.compile(r"train(_\w+)?")


def bop_objects(root: Path, name: str, chosen: str) -> ObjectModels:
    """The objects of a BOP dataset, or the `chosen` of them (``1,5,8``), in order of number.

    Names, keypoints and corners are those of ``objects.json``, if it is there; else keypoints are
    vertices by farthest point sampling from the one farthest from the middle.

    Raises:
        UserError: models are missing or wrong, or an object is unknown.
    """
    models = numbered_models(root)
    made = read_objects(root, {number: model.info for number, model in models.items()})
    numbers = sorted(models)
    if chosen:
        numbers = sorted({int(n) for n in chosen.split(",")}) if _is_list(chosen) else []
        if not numbers or set(numbers) - set(models):
            raise UserError(
                f"{root} has no objects {chosen!r}",
                f"use --cls with numbers of {', '.join(map(str, sorted(models)))}, e.g. "
                f"{','.join(map(str, sorted(models)[:2]))}",
            )
    keypoints, corners, diameters = [], [], []
    for number in numbers:
        if number in made:
            keypoints.append(made[number].keypoints)
            corners.append(made[number].corners)
        else:
            vertices = models[number].mesh[0] / 1000
            keypoints.append(vertices[farthest_points(vertices, KEYPOINTS)])
            corners.append(box_of(vertices))
        diameters.append(models[number].diameter / 1000)
    symmetric = (c for c, n in enumerate(numbers, 1) if len(models[n].symmetries) > 1)
    return ObjectModels(
        dataset=name,
        names=tuple(made[n].name if n in made else f"obj_{n:06d}" for n in numbers),
        numbers=tuple(numbers),
        keypoints=np.array(keypoints, np.float32),
        corners=np.array(corners, np.float32),
        radii=np.array(diameters, np.float32) / np.float32(2),
        diameters=np.array(diameters),
        symmetric=frozenset(symmetric),
    )


def bop_meshes(folder: Path, objects: ObjectModels) -> Meshes:
    """The vertices (P, 3) of the objects that have a model, in metres.

    Raises:
        UserError: a model is not of the object whose keypoints are used.
    """
    models, meshes = numbered_models(folder), {}
    for class_id, number in enumerate(objects.numbers, 1):
        if number in models:
            meshes[class_id] = models[number].mesh[0] / 1000
            check_mesh(models[number].path, meshes[class_id], objects, class_id)
    return meshes


def box_of(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The corners (8, 3) of the box around points (P, 3)."""
    ends = points.min(axis=0), points.max(axis=0)
    return np.array([[ends[i >> a & 1][a] for a in range(3)] for i in range(8)])


def _is_list(text: str) -> bool:
    return re.fullmatch(r"\d+(,\d+)*", text) is not None


class BopReader:
    """Frames ``SPLIT/SCENE/IMAGE`` of a BOP dataset.

    Training frames are of all splits that begin with train, or of `train_splits`, as far as they
    are there. Test frames are those of ``test_targets_bop19.json``, if it is there and not
    `every` image is asked for. The lists, a name per line, replace them. Instances of objects that
    are not among `objects` are background. With `canonical` poses of symmetric objects are replaced
    by `canonical_pose`. The models are those of the folder, or of the folder `models`: then
    instances of objects that are not among its models are background.
    """

    policy: Policy = "ycb"
    fill_holes = True

    def __init__(
        self,
        folder: Path,
        objects: ObjectModels,
        *,
        train_list: Path | None = None,
        test_list: Path | None = None,
        split: str = "test",
        train_splits: Sequence[str] = (),
        every: bool = False,
        canonical: bool = True,
        models: Path | None = None,
    ) -> None:
        self.models = models
        self.folder, self.objects, self.split = folder, objects, split
        self.train_splits, self.every, self.canonical = train_splits, every, canonical
        self.lists = {"train": train_list, "test": test_list}
        self._opened: dict[str, BopDataset] = {}

    @cached_property
    def train_names(self) -> list[str]:
        """All training frames."""
        if (listed := self.lists["train"]) is not None:
            return read_lines(listed)
        there = [split for split in splits(self.folder) if _TRAIN.fullmatch(split)]
        chosen = [split for split in there if split in (self.train_splits or there)]
        if not chosen:
            expected = " or ".join(self.train_splits) or "train_pbr or train_real"
            raise UserError(
                f"{self.folder} has no folder {expected}",
                f"set DATA.TRAIN_SPLITS '[{', '.join(there)}]'" if there else HINT,
            )
        return [
            f"{split}/{name}" for split in chosen for name in self.dataset(split).names.values()
        ]

    @property
    def real_train_names(self) -> list[str]:
        """All training frames: rendered ones have their own backgrounds."""
        return self.train_names

    @cached_property
    def test_names(self) -> list[str]:
        """The test frames."""
        if (listed := self.lists["test"]) is not None:
            return read_lines(listed)
        data = self.dataset(self.split)
        wanted = {*data.names}
        if not self.every:
            wanted = data.target_images(self.objects.numbers)
        return [f"{self.split}/{name}" for key, name in data.names.items() if key in wanted]

    def summary(self) -> str:
        """One line on the frames."""
        counts = Counter(name.split("/")[0] for name in self.train_names)
        trained = ", ".join(f"{count} in {split}" for split, count in counts.items())
        return f"training frames: {trained}; {len(self.test_names)} test frames in {self.split}"

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame."""
        return self.train_names[rng.randint(0, len(self.train_names))]

    draw_real = draw

    def files(self, name: str) -> list[Path]:
        """The colour and depth images and the masks of the objects, or the shard with them."""
        image = self._image(name)
        masks = image.masks if isinstance(image.masks, tuple) else ()
        files = [image.colour, image.depth, *(masks[i] for i in self._own(image) if masks)]
        return list(dict.fromkeys(f.archive if isinstance(f, Member) else f for f in files))

    def read(self, name: str) -> Frame:
        """Read a frame; without masks (test images) it has no labels."""
        image, own = (found := self._image(name)), self._own(found)
        if image.masks is None and own and _TRAIN.fullmatch(name.partition("/")[0]):
            raise UserError(
                f"{name}: no masks of the visible parts (mask_visib)",
                "make them with BOP's tools: training needs them",
            )
        if image.is_gray:
            gray = read_single_channel(image.colour, "gray image").astype(np.uint8)
            rgb = np.repeat(gray[:, :, None], 3, axis=2)
        else:
            rgb = read_image(image.colour, registered=True)
        stored = read_single_channel(image.depth, "depth image")
        if stored.dtype.itemsize == 1:
            raise UserError(
                f"{image.depth} has 8 bits: a picture of depth, not distances",
                "store depth in 16 bits",
            )
        depth = stored.astype(np.float32)
        check_same_size({image.colour: rgb, image.depth: depth})
        instances = np.zeros(depth.shape, np.int32)
        for row, (file, mask) in enumerate(image.read_masks(own), 1):
            check_same_size({image.depth: depth, file: mask})
            instances[mask] = row
        numbers = self.objects.numbers
        class_ids = np.array([numbers.index(image.instances[i].object_id) + 1 for i in own], int)
        poses = np.array([self._pose(image.instances[i]) for i in own]).reshape(-1, 3, 4)
        poses[:, :, 3] /= 1000
        return Frame(
            name=name,
            rgb=rgb,
            depth=depth,
            depth_scale=1000 / image.depth_scale,
            labels=np.array([0, *class_ids], np.int32)[instances],
            intrinsics=image.camera,
            class_ids=class_ids.astype(np.int32),
            camera_from_object=poses.astype(np.float32),
            stored_intrinsics=image.camera,
            instances=instances,
        )

    def read_meshes(self) -> Meshes:
        """Read the vertices of every object that has a model."""
        return bop_meshes(self.models or self.folder, self.objects)

    @property
    def infos(self) -> list[dict[str, Any]]:
        """Each object's entry of models_info.json."""
        return [self._models[number].info for number in self.objects.numbers]

    def packed_objects(self) -> dict[str, Any]:
        """The objects for checkpoints."""
        meshes = [self._models[number].mesh for number in self.objects.numbers]
        height, width = self.read(self.train_names[0]).depth.shape
        surfaces = [(vertices / 1000, faces) for vertices, faces in meshes]
        return pack(self.objects, surfaces, self.infos, (height, width))

    def _pose(self, instance: Instance) -> npt.NDArray[np.float64]:
        if not self.canonical:
            return instance.pose
        return canonical_pose(instance.pose, self._models[instance.object_id].symmetries)

    @cached_property
    def _models(self) -> dict[int, BopObject]:
        return numbered_models(self.models or self.folder)

    def _own(self, image: BopImage) -> list[int]:
        """The instances of this reader's objects, if they are seen at all."""
        numbers = set(self.objects.numbers)
        return [
            index
            for index, instance in enumerate(image.instances)
            if instance.object_id in numbers and instance.visible != 0
        ]

    def dataset(self, split: str) -> BopDataset:
        """A split, opened once."""
        if split not in self._opened:
            self._opened[split] = BopDataset(self.folder, split, models=self.models)
        return self._opened[split]

    def _image(self, name: str) -> BopImage:
        split, _, rest = name.partition("/")
        data = self.dataset(split)
        try:
            return data.split.image(rest)
        except (KeyError, ValueError) as error:
            first = next(iter(data.names.values()))
            raise UserError(
                f"{self.folder} has no frame {name}", f"names are like {split}/{first}"
            ) from error


class LinemodBopReader(BopReader):
    """LineMOD's objects in BOP's layout; its networks are trained on depth with holes."""

    policy: Policy = "linemod"
    fill_holes = False
