"""A dataset in BOP's layout: objects, scenes, targets. Lengths are millimetres, as in its files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import read_text, reason_of
from ffreid.errors import UserError
from ffreid.pose.bop.errors import symmetries
from ffreid.pose.bop.scores import Target

Floats = npt.NDArray[np.float64]
LAYOUT = (
    "models_eval/{models_info.json,obj_000001.ply}, "
    "test/000001/{scene_camera.json,scene_gt.json,depth/000000.png}"
)
HINT = f"expected {LAYOUT}"
MIN_VISIBLE = 0.1
"""Share of an instance that must be visible to be a target where there is no list of targets."""


@dataclass(frozen=True)
class Instance:
    """A true pose (3, 4) of an object in an image; `visible` is its visible share, if known."""

    object_id: int
    pose: Floats
    visible: float | None


@dataclass(frozen=True)
class BopImage:
    """An image: its scene's folder, its number, camera matrix, mm per unit of depth, instances."""

    scene: Path
    number: int
    camera: Floats
    depth_scale: float
    instances: tuple[Instance, ...]

    @property
    def key(self) -> tuple[int, int]:
        """Numbers of scene and image."""
        return int(self.scene.name), self.number

    @property
    def has_masks(self) -> bool:
        """Whether there are masks of the visible parts of instances."""
        return (self.scene / "mask_visib").is_dir()

    def mask_file(self, instance: int) -> Path:
        """The mask of an instance's visible part."""
        return self.scene / "mask_visib" / f"{self.number:06d}_{instance:06d}.png"

    @property
    def depth_file(self) -> Path:
        """The image of depths."""
        return self.scene / "depth" / f"{self.number:06d}.png"


class BopObject:
    """A model with faces, its diameter and symmetries."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path, self.info = path, info
        if not isinstance(info.get("diameter"), int | float) or not info["diameter"] > 0:
            raise UserError(
                f"{path.parent / 'models_info.json'}: object {int(path.stem[4:])} has no diameter",
                "add its largest distance of two vertices in millimetres",
            )
        self.diameter = float(info["diameter"])

    @cached_property
    def mesh(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Vertices (P, 3) and faces (F, 3)."""
        try:
            import trimesh
        except ImportError as error:
            raise UserError(
                f"BOP's models need another package: {error}", "pip install 'ffreid[bop]'"
            ) from error
        try:
            mesh: Any = trimesh.load(self.path, process=False, force="mesh")
            vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
        except (OSError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise UserError(f"cannot read {self.path}: {reason_of(error)}", HINT) from error
        if not len(faces) or not np.isfinite(vertices).all():
            what = "no faces" if not len(faces) else "vertices that are not finite"
            raise UserError(f"{self.path} has {what}", "use the dataset's own models")
        return vertices, faces

    @cached_property
    def symmetries(self) -> Floats:
        """The symmetries (S, 3, 4), the identity among them."""
        try:
            return symmetries(self.info)
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.path.parent / 'models_info.json'}: symmetries of object "
                f"{int(self.path.stem[4:])}: {error}",
                "symmetries_discrete are 4 x 4 matrices, symmetries_continuous have axis, offset",
            ) from error


def numbered_models(root: Path) -> dict[int, BopObject]:
    """The objects of a dataset by number: of ``models_eval``, else of ``models``."""
    models = next((p for n in ("models_eval", "models") if (p := root / n).is_dir()), root)
    return {
        int(number): BopObject(models / f"obj_{int(number):06d}.ply", info)
        for number, info in _load(models / "models_info.json").items()
    }


class BopDataset:
    """A split of a BOP dataset: ``ROOT/{models_eval,SPLIT}``.

    Raises:
        UserError: files are missing or of another form.
    """

    def __init__(self, root: Path, split: str = "test") -> None:
        if not root.is_dir():
            raise UserError(f"no folder {root}", "use --root FOLDER with a BOP dataset")
        self.root, self.folder = root, root / split
        if not self.folder.is_dir():
            others = sorted({p.parent.parent.name for p in root.glob("*/*/scene_camera.json")})
            raise UserError(
                f"{root} has no split {split!r}",
                f"use DATA.SPLIT {others[0]}" if others else HINT,
            )
        self.objects = numbered_models(root)

    def images(self) -> Iterator[BopImage]:
        """Every image of every scene that has a camera and a truth."""
        scenes = sorted(path.parent for path in self.folder.glob("*/scene_camera.json"))
        if not scenes:
            raise UserError(f"{self.folder} has no scene", HINT)
        for scene in scenes:
            cameras = _load(scene / "scene_camera.json")
            truth = _load(scene / "scene_gt.json")
            path = scene / "scene_gt_info.json"
            infos = _load(path) if path.exists() else {}
            for number, camera in cameras.items():
                try:
                    yield self._image(scene, number, camera, truth.get(number, []), infos)
                except (KeyError, ValueError, TypeError) as error:
                    raise UserError(f"{scene}, image {number}: {error!r}", HINT) from error

    def _image(
        self, scene: Path, number: str, camera: Any, truth: Any, infos: dict[str, Any]
    ) -> BopImage:
        info = infos.get(number, [{}] * len(truth))
        instances = []
        for entry, of in zip(truth, info, strict=True):
            if entry["obj_id"] not in self.objects:
                raise UserError(
                    f"{scene / 'scene_gt.json'}, image {number}: no model of object "
                    f"{entry['obj_id']}",
                    f"its models are {', '.join(map(str, self.objects))}",
                )
            rotation = np.array(entry["cam_R_m2c"], float).reshape(3, 3)
            pose = np.column_stack([rotation, np.array(entry["cam_t_m2c"], float)])
            instances.append(Instance(entry["obj_id"], pose, of.get("visib_fract")))
        scale = float(camera["depth_scale"])
        if not scale > 0:
            raise UserError(
                f"{scene / 'scene_camera.json'}, image {number}: depth_scale is {scale:g}",
                "it is the millimetres per unit of depth images, e.g. 1 or 0.1",
            )
        matrix = np.array(camera["cam_K"], float).reshape(3, 3)
        return BopImage(scene, int(number), matrix, scale, tuple(instances))

    def targets(self, images: list[BopImage]) -> tuple[dict[Target, int], str]:
        """Numbers of instances to find, and where they come from."""
        path = self.root / "test_targets_bop19.json"
        if self.folder.name == "test" and path.exists():
            try:
                rows = json.loads(read_text(path))
                targets = {
                    (r["scene_id"], r["im_id"], r["obj_id"]): int(r["inst_count"]) for r in rows
                }
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: {error!r}", "use the dataset's own file") from error
            known = {image.key for image in images}
            missing = sorted({t[:2] for t in targets} - known)
            if missing:
                raise UserError(
                    f"{path} names {len(missing)} images that are not in {self.folder}: "
                    f"scene {missing[0][0]}, image {missing[0][1]}",
                    "add these scenes, or remove them from the list",
                )
            return targets, path.name
        counts: dict[Target, int] = {}
        for image in images:
            for instance in image.instances:
                if instance.visible is None or instance.visible >= MIN_VISIBLE:
                    key = (*image.key, instance.object_id)
                    counts[key] = counts.get(key, 0) + 1
        return counts, f"instances of which at least {MIN_VISIBLE:.0%} are visible"


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise UserError(f"no file {path}", HINT) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", HINT) from error
    if not isinstance(content, dict) or not all(key.lstrip("-").isdecimal() for key in content):
        raise UserError(f"{path} is not an object with numbers as keys", HINT)
    return content
