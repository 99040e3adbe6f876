"""Frames of a BOP dataset for training and evaluation."""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import (
    read_image,
    read_lines,
    read_mask,
    read_single_channel,
)
from ffreid.errors import UserError
from ffreid.pose.bop.dataset import (
    HINT,
    BopDataset,
    BopImage,
    BopObject,
    Instance,
    numbered_models,
)
from ffreid.pose.bop.errors import canonical_pose
from ffreid.pose.data.augment import Policy
from ffreid.pose.data.frame import Frame, check_poses, check_same_size
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.keypoints import farthest_points
from ffreid.pose.objects import ObjectModels

KEYPOINTS = 8
_TRAIN = re.compile(r"train(_\w+)?")
_SUFFIXES = (".png", ".jpg", ".tif", ".jpeg")


def bop_objects(root: Path, name: str, chosen: str) -> ObjectModels:
    """The objects of a BOP dataset, or the `chosen` of them (``1,5,8``), in order of number.

    Keypoints are vertices by farthest point sampling from the one farthest from the middle.

    Raises:
        UserError: models are missing or wrong, or an object is unknown.
    """
    models = numbered_models(root)
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
        vertices = models[number].mesh[0] / 1000
        keypoints.append(vertices[farthest_points(vertices, KEYPOINTS)])
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        corners.append([[(low, high)[i >> a & 1][a] for a in range(3)] for i in range(8)])
        diameters.append(models[number].diameter / 1000)
    symmetric = (c for c, n in enumerate(numbers, 1) if len(models[n].symmetries) > 1)
    return ObjectModels(
        dataset=name,
        names=tuple(f"obj_{number:06d}" for number in numbers),
        numbers=tuple(numbers),
        keypoints=np.array(keypoints, np.float32),
        corners=np.array(corners, np.float32),
        radii=np.array(diameters, np.float32) / np.float32(2),
        diameters=np.array(diameters),
        symmetric=frozenset(symmetric),
    )


def bop_meshes(root: Path, chosen: str) -> Meshes:
    """The vertices (P, 3) of the chosen objects, in metres."""
    models = numbered_models(root)
    numbers = sorted(map(int, chosen.split(","))) if chosen else sorted(models)
    return {c: models[number].mesh[0] / 1000 for c, number in enumerate(numbers, 1)}


def _is_list(text: str) -> bool:
    return re.fullmatch(r"\d+(,\d+)*", text) is not None


class BopReader:
    """Frames ``SPLIT/SCENE/IMAGE`` of a BOP dataset; splits that begin with train are trained on.

    Test frames are those of ``test_targets_bop19.json``, if it is there. The lists, a name per
    line, replace them. Instances of objects that are not among `objects` are background. With
    `canonical` poses of symmetric objects are replaced by `canonical_pose`.
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
        canonical: bool = True,
    ) -> None:
        self.folder, self.objects, self.split = folder, objects, split
        self.canonical = canonical
        self.lists = {"train": train_list, "test": test_list}

    @cached_property
    def train_names(self) -> list[str]:
        """All training frames."""
        if (listed := self.lists["train"]) is not None:
            return read_lines(listed)
        splits = sorted(p.name for p in self.folder.iterdir() if _TRAIN.fullmatch(p.name))
        if not splits:
            raise UserError(f"{self.folder} has no folder train_pbr or train_real", HINT)
        return [name for split in splits for name in self._images(split)]

    @property
    def real_train_names(self) -> list[str]:
        """All training frames: rendered ones have their own backgrounds."""
        return self.train_names

    @cached_property
    def test_names(self) -> list[str]:
        """The test frames."""
        if (listed := self.lists["test"]) is not None:
            return read_lines(listed)
        images = self._images(self.split)
        targets, _ = BopDataset(self.folder, self.split).targets(list(images.values()))
        numbers = set(self.objects.numbers)
        wanted = {target[:2] for target in targets if target[2] in numbers}
        return [name for name, image in images.items() if image.key in wanted]

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
        """The colour and depth images, and the masks of the objects."""
        image = self._image(name)
        masks = [image.mask_file(i) for i in self._own(image)] if image.has_masks else []
        return [_existing(image), image.depth_file, *masks]

    def read(self, name: str) -> Frame:
        """Read a frame; without masks (test images) it has no labels."""
        image = self._image(name)
        colour, depth_file, *masks = self.files(name)
        if colour.parent.name == "gray":
            gray = read_single_channel(colour, "gray image").astype(np.uint8)
            rgb = np.repeat(gray[:, :, None], 3, axis=2)
        else:
            rgb = read_image(colour, registered=True)
        depth = read_single_channel(depth_file, "depth image").astype(np.float32)
        check_same_size({colour: rgb, depth_file: depth})
        own = self._own(image)
        instances = np.zeros(depth.shape, np.int32)
        for row, path in enumerate(masks, 1):
            mask = read_mask(path)
            check_same_size({depth_file: depth, path: mask})
            instances[mask] = row
        numbers = self.objects.numbers
        class_ids = np.array([numbers.index(image.instances[i].object_id) + 1 for i in own], int)
        poses = np.array([self._pose(image.instances[i]) for i in own]).reshape(-1, 3, 4)
        poses[:, :, 3] /= 1000
        check_poses(image.scene / "scene_gt.json", poses)
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
        """Read the vertices of every object."""
        return {c: self._models[n].mesh[0] / 1000 for c, n in enumerate(self.objects.numbers, 1)}

    def _pose(self, instance: Instance) -> npt.NDArray[np.float64]:
        if not self.canonical:
            return instance.pose
        return canonical_pose(instance.pose, self._models[instance.object_id].symmetries)

    @cached_property
    def _models(self) -> dict[int, BopObject]:
        return numbered_models(self.folder)

    def _own(self, image: BopImage) -> list[int]:
        """The instances of this reader's objects, if they are seen at all."""
        numbers = set(self.objects.numbers)
        return [
            index
            for index, instance in enumerate(image.instances)
            if instance.object_id in numbers and instance.visible != 0
        ]

    def _images(self, split: str) -> dict[str, BopImage]:
        if split not in self._cache:
            self._cache[split] = {
                f"{split}/{image.scene.name}/{image.number:06d}": image
                for image in BopDataset(self.folder, split).images()
            }
        return self._cache[split]

    @cached_property
    def _cache(self) -> dict[str, dict[str, BopImage]]:
        return {}

    def _image(self, name: str) -> BopImage:
        split, _, rest = name.partition("/")
        images = self._images(split)
        if name not in images:
            first = next(iter(images))
            raise UserError(f"{self.folder} has no frame {name}", f"names are like {first}")
        assert rest
        return images[name]


def _existing(image: BopImage) -> Path:
    paths = [
        image.scene / folder / f"{image.number:06d}{suffix}"
        for folder in ("rgb", "gray")
        for suffix in _SUFFIXES
    ]
    return next((path for path in paths if path.exists()), paths[0])
