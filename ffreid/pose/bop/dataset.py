"""A dataset in BOP's layout: objects, scenes, targets. Lengths are millimetres, as in its files."""

from collections import Counter
from collections.abc import Collection, Mapping
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
MIN_VISIBLE = 0.1
"""Share of an instance that must be visible to be a target where there is no list of targets."""


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
    """The objects of a dataset by number: of ``models_eval``, else of ``models``.

    As long as their file stays the same they are read once.
    """
    models = next((p for n in ("models_eval", "models") if (p := root / n).is_dir()), root)
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
        self.root, self.folder = root, root / split
        if not self.folder.is_dir():
            others = splits(root)
            raise UserError(
                f"{root} has no split {split!r}",
                f"use DATA.SPLIT {others[-1]}" if others else HINT,
            )
        self.objects = numbered_models(models or root)
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
            rows = [dict(row) for row in load_json(path)]
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
                return {
                    (r["scene_id"], r["im_id"], r["obj_id"]): int(r["inst_count"]) for r in rows
                }, name
            except (ValueError, KeyError, TypeError) as error:
                hint = "use the dataset's own file"
                raise UserError(f"{self.root / name}: {error!r}", hint) from error
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


def splits(root: Path) -> list[str]:
    """Names of the folders of a dataset that hold scenes or shards."""
    files = [*root.glob("*/*/scene_camera.json"), *root.glob("*/shard-*.tar")]
    return sorted({path.relative_to(root).parts[0] for path in files})
