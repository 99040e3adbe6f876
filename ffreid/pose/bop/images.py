"""The images of a split of a BOP dataset, each read when it is asked for. Lengths are millimetres.

A split is a folder of scenes, or of webdataset shards: ``shard-000000.tar`` with members like
``SCENE_IMAGE.rgb.jpg``, and ``key_to_shard.json``.
"""

import json
import math
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_mask, read_text, reason_of
from ffreid.errors import UserError, flat
from ffreid.files import File, Member
from ffreid.pose.data.frame import check_poses

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Truth = tuple[int, Sequence[float], Sequence[float], float | None]
"""Object, R (9), t (3), visible share of an instance."""
LAYOUT = (
    "models_eval/{models_info.json,obj_000001.ply}, "
    "test/000001/{scene_camera.json,scene_gt.json,depth/000000.png}"
)
HINT = f"expected {LAYOUT}"


@dataclass(frozen=True)
class Instance:
    """A true pose (3, 4) of an object in an image; `visible` is its visible share, if known."""

    object_id: int
    pose: Floats
    visible: float | None


@dataclass(frozen=True)
class BopImage:
    """An image.

    `key` is its scene and number, `camera` (3, 3), `depth_scale` mm per unit of depth; `masks` are
    a file for the visible part of each instance, or one of all, run-length encoded; None without.
    `truth` is the file of the instances, for errors.
    """

    key: tuple[int, int]
    camera: Floats
    depth_scale: float
    instances: tuple[Instance, ...]
    truth: File
    colour: File
    is_gray: bool
    depth: File
    masks: tuple[File, ...] | File | None

    def read_masks(self, rows: Sequence[int]) -> list[tuple[File, Mask]]:
        """The masks (H, W) of the instances `rows`, each with its file."""
        if self.masks is None:
            return []
        if isinstance(self.masks, tuple):
            return [(self.masks[row], read_mask(self.masks[row])) for row in rows]
        encoded = load_numbered(self.masks)
        if {*map(int, encoded)} != {*range(len(self.instances))}:
            raise _other_count(self.masks, len(encoded), len(self.instances))
        return [(self.masks, _decode(encoded[str(row)], self.masks)) for row in rows]


class Scenes:
    """A split in folders of scenes. Names of images are like ``000003/000004``."""

    def __init__(self, folder: Path, known: Collection[int] | None) -> None:
        paths = sorted(path.parent for path in folder.glob("*/scene_camera.json"))
        if not paths:
            raise UserError(f"{folder} has no scene", HINT)
        if wrong := [path for path in paths if not path.name.isdecimal()]:
            raise UserError(f"{wrong[0]}: not a scene's number", "name it like 000001")
        self.scenes = {path.name: _Scene(path, known) for path in paths}
        self.has_truth = any((path / "scene_gt.json").exists() for path in paths)

    def names(self) -> list[str]:
        """Every image that has a camera."""
        return [f"{name}/{n:06d}" for name, scene in self.scenes.items() for n in scene.rows]

    def image(self, name: str) -> BopImage:
        """An image.

        Raises:
            KeyError: there is none of this name.
        """
        scene, _, number = name.partition("/")
        return self.scenes[scene].image(int(number))


class _Scene:
    """A scene's folder; its truth, which is large, is read when an image is asked for."""

    def __init__(self, folder: Path, known: Collection[int] | None) -> None:
        self.folder, self.known = folder, known
        path = folder / "scene_camera.json"
        stored = load_numbered(path)
        cameras = [_camera(entry, f"{path}, image {n}") for n, entry in stored.items()]
        self.rows = {int(number): row for row, number in enumerate(stored)}
        self.cameras = np.array([matrix for matrix, _ in cameras]).reshape(-1, 3, 3)
        self.scales = [scale for _, scale in cameras]

    @cached_property
    def truth(self) -> tuple[list[int], list[int], Floats, list[float | None]]:
        """Where each image's instances begin; their objects, poses (I, 3, 4), visible shares.

        Test sets may have none.
        """
        path = self.folder / "scene_gt.json"
        is_train = self.folder.parent.name.startswith("train")
        stored = load_numbered(path) if is_train or path.exists() else {}
        path = self.folder / "scene_gt_info.json"
        infos = load_numbered(path) if path.exists() else {}
        starts, found = [0], list[Truth]()
        for number in self.rows:
            where = f"{self.folder / 'scene_gt.json'}, image {number}"
            entries = stored.get(str(number), [])
            found += _instances(entries, infos.get(str(number)), self.known, where)
            starts.append(len(found))
        poses = _poses(found, self.folder / "scene_gt.json")
        return starts, [f[0] for f in found], poses, [f[3] for f in found]

    @cached_property
    def files(self) -> dict[str, dict[str, str]]:
        """Names of files by folder and stem."""
        return {
            part: {name.partition(".")[0]: name for name in _listed(self.folder / part)}
            for part in ("rgb", "gray", "depth")
            if (self.folder / part).is_dir()
        }

    @cached_property
    def masks(self) -> dict[int, int] | None:
        """The number of masks of each image; None without any."""
        if not (self.folder / "mask_visib").is_dir():
            return None
        counts = dict.fromkeys(self.rows, 0)
        for name in _listed(self.folder / "mask_visib"):
            number = name.partition("_")[0]
            if number.isdecimal() and int(number) in counts:
                counts[int(number)] += 1
        return counts

    def image(self, number: int) -> BopImage:
        row = self.rows[number]
        starts, ids, poses, visible = self.truth
        members = range(starts[row], starts[row + 1])
        colour = next((p for p in ("rgb", "gray") if f"{number:06d}" in self.files.get(p, ())), "")
        masks = None
        if self.masks is not None:
            if self.masks[number] != len(members):
                where = self.folder / f"mask_visib/{number:06d}_*.png"
                raise _other_count(where, self.masks[number], len(members))
            masks = tuple(
                self.folder / f"mask_visib/{number:06d}_{i:06d}.png" for i in range(len(members))
            )
        return BopImage(
            key=(int(self.folder.name), number),
            camera=self.cameras[row],
            depth_scale=self.scales[row],
            instances=tuple(Instance(ids[i], poses[i], visible[i]) for i in members),
            truth=self.folder / "scene_gt.json",
            colour=self._file(colour or "rgb", number),
            is_gray=colour == "gray",
            depth=self._file("depth", number),
            masks=masks,
        )

    def _file(self, part: str, number: int) -> Path:
        stem = f"{number:06d}"
        return self.folder / part / self.files.get(part, {}).get(stem, f"{stem}.png")


class Shards:
    """A split in webdataset shards, whose members are found when their shard is first used."""

    def __init__(self, folder: Path, known: Collection[int] | None) -> None:
        self.folder, self.known = folder, known
        self.members: dict[Path, dict[str, tuple[int, int]]] = {}
        self.is_train = folder.name.startswith("train")
        index = folder / "key_to_shard.json"
        shards = sorted(folder.glob("shard-*.tar"))
        if index.exists():
            stored = load_json(index)
            try:
                self.shards = {k: folder / f"shard-{int(v):06d}.tar" for k, v in stored.items()}
            except (AttributeError, ValueError, TypeError) as error:
                raise UserError(f"{index}: {error}", "it names the shard of each key") from error
            if absent := sorted({*self.shards.values()} - {*shards}):
                raise UserError(f"no shard {absent[0]}, which {index.name} names", "download it")
        else:
            self.shards = {
                name.partition(".")[0]: shard for shard in shards for name in self._members(shard)
            }
        if wrong := [k for k in self.shards if not all(map(str.isdecimal, k.split("_", 1)))]:
            raise UserError(f"{folder}: {wrong[0]!r} is no key", "keys are like 000001_000000")

    @cached_property
    def has_truth(self) -> bool:
        """Whether the first shard has poses."""
        return any(name.endswith(".gt.json") for name in self._members(min(self.shards.values())))

    def names(self) -> list[str]:
        """Every image."""
        return [key.replace("_", "/", 1) for key in self.shards]

    def image(self, name: str) -> BopImage:
        """An image.

        Raises:
            KeyError: there is none of this name.
        """
        key = name.replace("/", "_", 1)
        shard = self.shards[key]
        scene, _, number = key.partition("_")

        def find(*parts: str) -> Member | None:
            for part in parts:
                if found := self._members(shard).get(f"{key}.{part}"):
                    return Member(shard, f"{key}.{part}", *found)
            return None

        def need(*parts: str) -> Member:
            if (found := find(*parts)) is None:
                hint = "download the shard again, or make key_to_shard.json again"
                raise UserError(f"{shard} has no {key}.{parts[0]}", hint)
            return found

        truth = need("gt.json") if self.is_train or self.has_truth else None
        info = find("gt_info.json")
        camera, rgb = need("camera.json"), find("rgb.jpg", "rgb.png", "rgb.tif", "rgb.tiff")
        entries: list[Truth] = []
        if truth is not None:
            infos = load_json(info) if info else None
            entries = [*_instances(load_json(truth), infos, self.known, str(truth))]
        matrix, scale = _camera(load_json(camera), str(camera))
        return BopImage(
            key=(int(scene), int(number)),
            camera=np.array(matrix, float).reshape(3, 3),
            depth_scale=scale,
            instances=tuple(
                Instance(entry[0], pose, entry[3])
                for entry, pose in zip(entries, _poses(entries, truth or camera), strict=True)
            ),
            truth=truth or camera,
            colour=rgb or need("gray.tiff", "gray.tif", "gray.png", "gray.jpg"),
            is_gray=rgb is None,
            depth=need("depth.png", "depth.tiff", "depth.tif"),
            masks=find("mask_visib.json"),
        )

    def _members(self, shard: Path) -> dict[str, tuple[int, int]]:
        if shard not in self.members:
            try:
                with tarfile.open(shard, "r:") as tar:
                    self.members[shard] = {
                        m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar
                    }
            except (OSError, tarfile.TarError) as error:
                hint = "download it again; shards are not compressed"
                raise UserError(f"cannot read {shard}: {reason_of(error)}", hint) from error
        return self.members[shard]


def open_split(folder: Path, known: Collection[int] | None) -> Scenes | Shards:
    """Open a split; `known` are the numbers of objects that have a model; None is any."""
    return (Shards if any(folder.glob("shard-*.tar")) else Scenes)(folder, known)


def load_json(path: File) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", HINT) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", HINT) from error


def load_numbered(path: File) -> dict[str, Any]:
    """The content of a JSON file with numbers as keys."""
    content = load_json(path)
    if not isinstance(content, dict) or not all(key.lstrip("-").isdecimal() for key in content):
        raise UserError(f"{path} is not an object with numbers as keys", HINT)
    return content


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 - Paths cost more than the list


def _camera(entry: Any, where: str) -> tuple[list[float], float]:
    """Camera matrix (9) and depth scale."""
    try:
        matrix, scale = [float(value) for value in entry["cam_K"]], float(entry["depth_scale"])
        if len(matrix) != 9:
            raise ValueError(f"cam_K has {len(matrix)} numbers instead of 9")
        if not (matrix[0] > 0 and matrix[4] > 0 and math.isfinite(sum(matrix))):
            raise ValueError(f"cam_K is {entry['cam_K']}")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {error!r}", HINT) from error
    if not 0 < scale < np.inf:
        raise UserError(
            f"{where}: depth_scale is {scale:g}",
            "it is the millimetres per unit of depth images, e.g. 1 or 0.1",
        )
    return matrix, scale


def _instances(
    entries: Any, infos: Any, known: Collection[int] | None, where: str
) -> Iterator[Truth]:
    """The instances of an image."""
    try:
        infos = [{}] * len(entries) if infos is None else infos
        for entry, info in zip(entries, infos, strict=True):
            rotation, shift, number = entry["cam_R_m2c"], entry["cam_t_m2c"], entry["obj_id"]
            if (len(rotation), len(shift)) != (9, 3):
                raise ValueError("cam_R_m2c has 9 numbers, cam_t_m2c 3")
            if known is not None and number not in known:
                raise UserError(
                    f"{where}: no model of object {number}",
                    f"its models are {', '.join(map(str, known))}",
                )
            yield number, rotation, shift, info.get("visib_fract")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: {error!r}", HINT) from error


def _poses(entries: Sequence[Truth], where: File) -> Floats:
    """The poses (I, 3, 4) of instances."""
    try:
        rotations = np.array([r for _, r, _, _ in entries], float).reshape(-1, 3, 3)
        shifts = np.array([t for _, _, t, _ in entries], float).reshape(-1, 3, 1)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {flat(str(error))}", HINT) from error
    poses = np.concatenate([rotations, shifts], axis=2)
    check_poses(where, poses)
    return poses


def _decode(encoded: Any, where: File) -> Mask:
    """A mask (H, W) from the lengths of its runs of 0, 1, 0, … down its columns."""
    try:
        (height, width), counts = encoded["size"], np.array(encoded["counts"], np.int64)
        if counts.sum() != height * width or (counts < 0).any():
            raise ValueError(f"runs of {counts.sum()} pixels for {height} x {width}")
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    except (KeyError, ValueError, TypeError) as error:
        hint = "masks are {'size': [height, width], 'counts': [lengths of runs]}"
        raise UserError(f"{where}: {error}", hint) from error
    return np.asarray(values.reshape(width, height).T)


def _other_count(where: File, masks: int, instances: int) -> UserError:
    return UserError(
        f"{where}: {masks} masks of {instances} instances",
        "make them again with BOP's tools: a mask for each entry of scene_gt.json",
    )


def scene_key(name: str) -> tuple[int, int]:
    """Numbers of scene and image of a name like ``000003/000004``."""
    scene, number = name.split("/")[-2:]
    return int(scene), int(number)


def keys(split: Scenes | Shards) -> Mapping[tuple[int, int], str]:
    """The names of all images by their numbers of scene and image."""
    return {scene_key(name): name for name in split.names()}
