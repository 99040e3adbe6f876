"""A dataset in BOP's layout: objects, scenes, targets. Lengths are millimetres, as in its files."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffreid.engine.dataset_files import reason_of
from ffreid.errors import UserError
from ffreid.pose.bop.errors import symmetries
from ffreid.pose.bop.images import HINT, BopImage, keys, load_json, load_numbered, open_split
from ffreid.pose.bop.scores import Target

Floats = npt.NDArray[np.float64]
RECALL_TARGETS, DETECTION_TARGETS = "test_targets_bop19.json", "test_targets_bop24.json"
MODELS = "models_eval", "models"
MIN_VISIBLE = 0.1
"""Share of an instance that must be visible to be a target where there is no list of targets."""


def load_model(path: Path) -> Any:
    """A model as trimesh's mesh, with finite vertices and faces.

    Raises:
        UserError: it cannot be read, or trimesh is missing.
    """
    try:
        import trimesh
    except ImportError as error:
        raise UserError(
            f"BOP's models need another package: {error}", "pip install 'ffreid[bop]'"
        ) from error
    trimesh.util.log.setLevel("ERROR")  # what it warns of raises an error here
    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except (OSError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise UserError(f"cannot read {path}: {reason_of(error)}", HINT) from error
    if not len(faces) or not np.isfinite(vertices).all():
        what = "no faces" if not len(faces) else "vertices that are not finite"
        raise UserError(f"{path} has {what}", "use the dataset's own models, or make them again")
    return mesh


class BopObject:
    """A model with faces, its diameter and symmetries."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path, self.info = path, info
        diameter = info.get("diameter") if isinstance(info, dict) else None
        if not isinstance(diameter, int | float) or not 0 < diameter < math.inf:
            raise UserError(
                f"{path.parent / 'models_info.json'}: object {int(path.stem[4:])} has no diameter",
                "add its largest distance of two vertices in millimetres",
            )
        self.diameter = float(diameter)

    @cached_property
    def mesh(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Vertices (P, 3) and faces (F, 3)."""
        mesh = load_model(self.path)
        size = np.ptp(mesh.vertices, axis=0)
        if not 0.9 * size.max() <= self.diameter <= 1.1 * np.linalg.norm(size):
            raise UserError(
                f"{self.path} is {' x '.join(f'{side:.3g}' for side in size)} large, its diameter "
                f"in models_info.json {self.diameter:.3g}",
                "both are in millimetres",
            )
        return np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)

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


def numbered_models(root: Path, folders: Sequence[str] = MODELS) -> dict[int, BopObject]:
    """The objects of a dataset by number: of ``models_eval``, else of ``models``, else of `root`.

    As long as their file stays the same they are read once.
    """
    models = next((p for n in folders if (p := root / n).is_dir()), root)
    path = models / "models_info.json"
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"no file {path}", HINT) from error
    return _read_models(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read_models(path: Path, *_: int) -> dict[int, BopObject]:
    return {
        int(number): BopObject(path.parent / f"obj_{int(number):06d}.ply", info)
        for number, info in load_numbered(path).items()
    }


class BopDataset:
    """A split of a BOP dataset: ``ROOT/{models_eval,SPLIT}``, or with `models` of another folder.

    Raises:
        UserError: files are missing or of another form.
    """

    def __init__(self, root: Path, split: str = "test", *, models: Path | None = None) -> None:
        if not root.is_dir():
            raise UserError(f"no folder {root}", "use --root FOLDER with a BOP dataset")
        self.root, self.folder, self.has_own_models = root, root / split, models is not None
        if not self.folder.is_dir():
            others = splits(root)
            raise UserError(
                f"{root} has no split {split!r}",
                f"use DATA.SPLIT {others[-1]}" if others else HINT,
            )
        self.objects = numbered_models(models or root)
        if models is not None:
            _check_same(self.objects, root, models)
        self.split = open_split(self.folder, None if models else list(self.objects))

    @cached_property
    def names(self) -> Mapping[tuple[int, int], str]:
        """The names of all images, e.g. ``000003/000004``, by their numbers."""
        return keys(self.split)

    def image(self, key: tuple[int, int]) -> BopImage:
        """The image of these numbers of scene and image."""
        return self.split.image(self.names[key])

    def _listed(self, name: str) -> list[dict[str, int]] | None:
        """The rows of a list of targets; None without one for this split."""
        path = self.root / name
        if not self.folder.name.startswith("test") or not path.exists():
            return None
        try:
            content = load_json(path)
            if not content or not isinstance(content, list):
                raise UserError(f"{path} is no list of targets", "use the dataset's own file")
            rows = [dict(row) for row in content]
            found = {(row["scene_id"], row["im_id"]) for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: {error!r}", "use the dataset's own file") from error
        if missing := sorted(found - {*self.names}):
            raise UserError(
                f"{path} names {len(missing)} images that are not in {self.folder}: "
                f"scene {missing[0][0]}, image {missing[0][1]}",
                "add these scenes, or remove them from the list",
            )
        return rows

    def targets(self) -> tuple[dict[Target, int], str]:
        """Numbers of instances to find, and where they come from."""
        if (rows := self._listed(name := RECALL_TARGETS)) is not None:
            try:
                targets = {
                    (r["scene_id"], r["im_id"], r["obj_id"]): int(r["inst_count"]) for r in rows
                }
                if wrong := [r for r in rows if int(r["inst_count"]) < 1]:
                    raise ValueError(f"inst_count of {wrong[0]}")
                unknown = {target[2] for target in targets} - {*self.objects}
                if unknown and not self.has_own_models:
                    raise ValueError(f"no model of object {min(unknown)}")
            except (ValueError, KeyError, TypeError) as error:
                hint = "use the dataset's own file"
                raise UserError(f"{self.root / name}: {error!r}", hint) from error
            return targets, name
        self.need_truth()
        counts: Counter[Target] = Counter()
        for key in self.names:
            for instance in self.image(key).instances:
                if instance.visible is None or instance.visible >= MIN_VISIBLE:
                    counts[*key, instance.object_id] += 1
        return counts, f"instances of which at least {MIN_VISIBLE:.0%} are visible"

    def target_images(self, numbers: Collection[int]) -> set[tuple[int, int]]:
        """The images with an object of these numbers to find, or all of the detection task."""
        images = self.detection_images()
        if images is None or self._listed(RECALL_TARGETS) is not None:
            found = {target[:2] for target in self.targets()[0] if target[2] in numbers}
            images = found | (images or set())
        return images

    def need_truth(self) -> None:
        """Refuse a test set whose poses are not public."""
        if not self.split.has_truth:
            raise UserError(
                f"no file scene_gt.json in {self.folder}: its poses are not public",
                "send the results file to BOP's server for scores",
            )

    def detection_images(self) -> set[tuple[int, int]] | None:
        """The images of the detection task; None without its list."""
        rows = self._listed(DETECTION_TARGETS)
        return None if rows is None else {(row["scene_id"], row["im_id"]) for row in rows}


def _check_same(objects: Mapping[int, BopObject], root: Path, models: Path) -> None:
    """Refuse an object set with the numbers of other objects of the dataset."""
    if not any((root / name / "models_info.json").is_file() for name in MODELS):
        return
    for number, theirs in numbered_models(root).items():
        own = objects.get(number, theirs)
        if abs(own.diameter / theirs.diameter - 1) > 0.2:
            raise UserError(
                f"object {number} has a diameter of {own.diameter:.4g} mm in {models}, but of "
                f"{theirs.diameter:.4g} mm in {root}",
                "number the objects as the dataset does: name the mesh of its object 5 "
                "obj_000005.ply, and make the set again",
            )


def splits(root: Path) -> list[str]:
    """Names of the folders of a dataset that hold scenes or shards."""
    files = [*root.glob("*/*/scene_camera.json"), *root.glob("*/shard-*.tar")]
    return sorted({path.relative_to(root).parts[0] for path in files})
