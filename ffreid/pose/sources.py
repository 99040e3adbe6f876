"""The datasets of the pose task by DATA.LAYOUT: readers, objects, meshes, toy data.

A new layout is a reader, a `Layout` and a line in `ffreid.pose.defaults.LAYOUTS`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.engine import synthetic
from ffreid.engine.cache import Cache
from ffreid.engine.dataset_files import find_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose.bop.reader import BopReader, LinemodBopReader, bop_meshes, bop_objects
from ffreid.pose.data import checks
from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.dataset import Reader
from ffreid.pose.data.frame import check_unique
from ffreid.pose.data.linemod import FOLDER_NAMES as LINEMOD_FOLDERS
from ffreid.pose.data.linemod_objects import OCCLUSION, LinemodObjectsReader, OcclusionReader
from ffreid.pose.data.meshes import Meshes, read_linemod_mesh, read_xyz_meshes
from ffreid.pose.data.sample import make_ground_truth
from ffreid.pose.data.ycb import FOLDER_NAMES, LAYOUT, YcbReader, read_poses
from ffreid.pose.defaults import LAYOUTS, check_root
from ffreid.pose.object_set.read import FILE as OBJECT_SET
from ffreid.pose.objects import ObjectModels, linemod_objects, ycb_objects, ycbv_objects
from ffreid.pose.resources import resource
from ffreid.pose.stored_objects import ENTRY, check_same, unpack
from ffreid.pose.toy.dataset import ensure_toy, toy_meshes, toy_object_models

BOP_FOLDERS = ("models_eval", "test", "models")
"""Folders by which one in BOP's layout is known; a LineMOD folder also has models."""


@dataclass(frozen=True)
class Source:
    """An opened dataset; `opened` has its cache, once it is looked for, see `ffreid.pose.cache`."""

    reader: Reader
    objects: ObjectModels
    opened: dict[str, Cache | None] = field(default_factory=dict, compare=False, repr=False)

    def summary(self) -> str:
        """One line on the frames and their lists."""
        try:
            return self.reader.summary()
        except UserError as error:  # an evaluation needs no training list
            return f"{len(self.reader.test_names)} test frames; {error.message}"

    @cached_property
    def meshes(self) -> Meshes:
        """Vertices of every object."""
        return self.reader.read_meshes()


def toy_folder(cfg: CfgNode) -> Path:
    """Where the toy data are: a folder for each size and seed."""
    toy = cfg.DATA.TOY
    name = f"{toy.TRAIN}-{toy.TEST}-{toy.SYNTHETIC}-{toy.HEIGHT}x{toy.WIDTH}-{toy.SEED}"
    name += f"-{cfg.DATA.CLS}" if cfg.DATA.CLS else ""
    return synthetic.toy_folder(cfg.DATA.ROOT, cfg.DATASET, name)


def _render_toy(cfg: CfgNode) -> Path:
    """Render the toy data on first use; of several processes only one renders."""
    toy = cfg.DATA.TOY
    with ProgressBar("rendering toy frames") as bar:
        return ensure_toy(
            toy_folder(cfg),
            frames=toy.TRAIN,
            test_frames=toy.TEST,
            synthetic=toy.SYNTHETIC,
            height=toy.HEIGHT,
            width=toy.WIDTH,
            seed=toy.SEED,
            cls=cfg.DATA.CLS,
            progress=bar.update,
        )


@dataclass(frozen=True)
class Layout:
    """How the datasets of a layout are opened.

    `reader` is a class with the members of `Reader`; its arguments are the folder (the dataset's
    or its parent), the objects, the paths ``train_list`` and ``test_list``, and `options`.
    `meshes` reads the meshes alone, `size` is the height and width of the frames.
    """

    reader: type[Any]
    objects: Callable[[CfgNode], ObjectModels]
    folder: Callable[[CfgNode], Path] = lambda cfg: Path(cfg.DATA.ROOT)
    options: Callable[[CfgNode], dict[str, Any]] = lambda cfg: {}
    meshes: Callable[[CfgNode], Meshes] = lambda cfg: open_source(cfg).meshes
    size: Callable[[CfgNode], tuple[int, int]] = lambda cfg: (480, 640)


def _camera(cfg: CfgNode) -> dict[str, Any]:
    return {"intrinsics": cfg.DATA.INTRINSICS}


def _linemod_meshes(cfg: CfgNode) -> Meshes:
    check_root(cfg)
    objects = linemod_objects(cfg.DATA.CLS)
    folder = find_folder(
        Path(cfg.DATA.ROOT), LINEMOD_FOLDERS, ("models",), LAYOUTS["linemod"].files
    )
    return {c: read_linemod_mesh(folder, n) for c, n in enumerate(objects.numbers, start=1)}


def _ycb_meshes(cfg: CfgNode) -> Meshes:
    check_root(cfg)
    return ycb_meshes(Path(cfg.DATA.ROOT), ycb_objects())


def _bop_objects(cfg: CfgNode) -> ObjectModels:
    """The objects whose keypoints the recipe names, else those of the dataset's models."""
    chosen = cfg.DATA.CLS
    if cfg.DATA.OBJECTS == "ycb":
        return ycbv_objects()
    if cfg.DATA.OBJECTS:
        if not chosen:
            names = resource("linemod")["objects"]
            eight = ",".join(name for name, number in names.items() if number in OCCLUSION)
            chosen = eight if cfg.DATA.OBJECTS == "lmo" else "all"
        return linemod_objects(chosen, cfg.DATASET)
    return bop_objects(_models(cfg), cfg.DATASET, chosen)


def own_models(cfg: CfgNode) -> Path | None:
    """The object set whose models replace those of a BOP dataset, if there is one."""
    if not cfg.DATA.OBJECT_SET:
        return None
    folder = Path(cfg.DATA.OBJECT_SET)
    if not (folder / OBJECT_SET).is_file():
        raise UserError(
            f"--objects {folder} holds no object set ({OBJECT_SET})",
            "make one: ffreid objects MESH... --out FOLDER",
        )
    return folder


def _models(cfg: CfgNode) -> Path:
    if (folder := own_models(cfg)) is not None:
        return folder
    check_root(cfg)
    return bop_folder(cfg)


def bop_folder(cfg: CfgNode) -> Path:
    """The folder of a dataset in BOP's layout: the root, or below it that named as the dataset."""
    root = Path(cfg.DATA.ROOT)
    if cfg.DATASET == "bop":
        return root
    return find_folder(root, (cfg.DATASET,), BOP_FOLDERS, LAYOUTS["bop"].files)


def _bop_options(cfg: CfgNode) -> dict[str, Any]:
    return {
        "split": cfg.DATA.SPLIT,
        "train_splits": cfg.DATA.TRAIN_SPLITS,
        "every": cfg.DATA.EVERY_IMAGE,
        "canonical": cfg.DATA.CANONICAL,
        "models": own_models(cfg),
    }


def _bop_meshes(cfg: CfgNode) -> Meshes:
    return bop_meshes(_models(cfg), _bop_objects(cfg))


YCB = Layout(YcbReader, lambda cfg: ycb_objects(), options=_camera, meshes=_ycb_meshes)
LINEMOD = Layout(
    LinemodObjectsReader,
    lambda cfg: linemod_objects(cfg.DATA.CLS),
    options=_camera,
    meshes=_linemod_meshes,
)
BOP = Layout(BopReader, _bop_objects, lambda cfg: bop_folder(cfg), _bop_options, _bop_meshes)
BOP_LINEMOD = replace(BOP, reader=LinemodBopReader)
OCCLUSION_LINEMOD = Layout(
    OcclusionReader, _bop_objects, options=_camera, meshes=lambda cfg: open_source(cfg).meshes
)
TOY = Layout(
    YcbReader,
    lambda cfg: toy_object_models(cfg.DATASET, cfg.DATA.CLS),
    _render_toy,
    _camera,
    lambda cfg: toy_meshes(cfg.DATA.CLS),
    lambda cfg: (cfg.DATA.TOY.HEIGHT, cfg.DATA.TOY.WIDTH),
)


def is_linemod(cfg: CfgNode) -> bool:
    """Whether a dataset in BOP's layout is of LineMOD's objects."""
    return cfg.DATA.LAYOUT == "bop" and cfg.DATA.OBJECTS in ("linemod", "lmo")


def layout_of(cfg: CfgNode) -> Layout:
    """The layout named in `ffreid.pose.defaults.LAYOUTS`, LineMOD's objects as it reads them.

    Occlusion-LineMOD is also found in LineMOD's layout, where BOP's folder is not there.
    """
    layout: Layout = resolve_name(LAYOUTS[cfg.DATA.LAYOUT].source)
    if not is_linemod(cfg):
        return layout
    root = Path(cfg.DATA.ROOT)
    homes = [root / name for name in (*LINEMOD_FOLDERS, ".")]
    is_bop = any((root / name / part).is_dir() for name in ("lmo", ".") for part in BOP_FOLDERS[:2])
    if cfg.DATA.OBJECTS == "lmo" and not is_bop and any((h / "data/02").is_dir() for h in homes):
        return OCCLUSION_LINEMOD
    return BOP_LINEMOD


def open_source(cfg: CfgNode) -> Source:
    """Open the dataset of the configuration."""
    check_root(cfg)
    check_unique("DATA.FRAMES", cfg.DATA.FRAMES)
    layout = layout_of(cfg)
    objects = layout.objects(cfg)
    lists = {"train_list": cfg.DATA.TRAIN_LIST, "test_list": cfg.DATA.TEST_LIST}
    options = {name: Path(path) if path else None for name, path in lists.items()}
    options |= layout.options(cfg)
    return Source(layout.reader(layout.folder(cfg), objects, **options), objects)


def synthetic_folder(cfg: CfgNode) -> Path | None:
    """Folder of the data rendered on first use; None for other datasets."""
    return toy_folder(cfg) if cfg.DATA.LAYOUT == "toy" else None


def ycb_meshes(folder: Path, objects: ObjectModels) -> Meshes:
    """Meshes of YCB-Video's objects below `folder`, which needs ``models/`` only."""
    return read_xyz_meshes(find_folder(folder, FOLDER_NAMES, ("models",), LAYOUT), objects)


def ycb_ground_truth(folder: Path, objects: ObjectModels, frames: Path | None) -> list[GroundTruth]:
    """Ground truth from the meta.mat files of the frames listed in `frames`, or the test list."""
    reader = YcbReader(folder, objects, test_list=frames)
    gts = []
    for index, name in enumerate(reader.test_names):
        poses = read_poses(reader.folder / f"{name}-meta.mat", objects)
        gts.append(make_ground_truth(name, *poses, objects, index=index))
    return gts


def check_source(cfg: CfgNode, source: Source) -> None:
    """Read the meshes now if images or scores need them later."""
    if cfg.TRAIN.EVAL_POSES or cfg.TRAIN.TENSORBOARD:
        check_meshes(source, cfg.DATA.FRAMES or source.reader.test_names)


def check_meshes(source: Source, names: Sequence[str]) -> None:
    """Refuse objects in the frames `names` that have no mesh."""
    reader, meshes = source.reader, source.meshes
    if len(meshes) < len(source.objects) and isinstance(reader, YcbReader):
        for class_id in {
            class_id
            for name in names
            for class_id in read_poses(reader.files(name)[-1], source.objects)[0].tolist()
        }:
            assert len(meshes[class_id])  # an error if it is not there


def notes(cfg: CfgNode, source: Source) -> list[str]:
    """Notes for the user on the dataset, from a few of its frames."""
    reader = source.reader
    real = set(reader.real_train_names)
    rendered = [name for name in reader.train_names if name not in real]
    lists = {"training": reader.real_train_names, "rendered": rendered, "test": reader.test_names}
    found = list_notes(cfg, reader, reader.test_names)
    return found + frame_notes(source, {"chosen": cfg.DATA.FRAMES} if cfg.DATA.FRAMES else lists)


def list_notes(cfg: CfgNode, reader: Reader, names: Sequence[str]) -> list[str]:
    """Notes on repeated training frames, and on those among the test frames `names`."""
    try:
        train = [] if cfg.DATA.FRAMES else reader.train_names
    except UserError:  # see `Source.summary`
        return []
    known, notes = set(train), []
    if shared := [name for name in names if name in known]:
        notes.append(
            f"test frames that are training frames as well: {len(shared)} of {len(names)}, e.g. "
            f"{shared[0]}: their results say nothing about new frames"
        )
    if again := len(train) - len(known):
        notes.append(
            f"training frames that are listed again, and so drawn more often: {again} of "
            f"{len(train)}"
        )
    return notes


def frame_notes(
    source: Source, lists: Mapping[str, Sequence[str]], *, count: bool = True
) -> list[str]:
    """Notes from a few frames of each list, see `ffreid.pose.data.checks`.

    Objects without a mesh are compared with their keypoints. With `count` frames without labels
    and with several objects of a class are counted.
    """
    objects = source.objects
    frames = {
        group: [source.reader.read(name) for name in checks.spread(names)]
        for group, names in lists.items()
    }
    meshes: Meshes = {}
    notes = []
    try:
        meshes = source.meshes
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):  # needed for scores only
            notes = [error.message]
    every = [frame for members in frames.values() for frame in members]
    notes += checks.camera_notes(every) + checks.label_notes(every, objects)
    if count:
        labels = [
            checks.Labels(
                f.name,
                (f.class_ids if f.instances is None else np.unique(f.class_ids)).tolist(),
                bool(np.isin(f.labels, f.class_ids).any()),
            )
            for f in every
        ]
        notes += checks.count_notes(labels, objects)
    return notes + checks.geometry_notes(frames, objects, meshes)


def class_names(source: Source) -> list[str]:
    """Class names, for checkpoints."""
    return list(source.objects.names)


def checkpoint_entries(cfg: CfgNode, source: Source) -> dict[str, Any]:
    """The objects, where they come with a dataset and not with ffreid."""
    reader = source.reader
    if cfg.DATA.OBJECTS or not isinstance(reader, BopReader):
        return {}
    return {ENTRY: reader.packed_objects()}


def check_entries(source: Source, state: Mapping[str, Any], origin: str) -> None:
    """Refuse to resume with other objects."""
    reader = source.reader
    then = unpack(state, source.objects.dataset, Path(origin))
    if then is not None and isinstance(reader, BopReader):
        hint = "use the object set of then (--objects), or start another run with --tag NAME"
        check_same(then, source.objects, origin, hint, reader.infos)


def report_dataset(cfg: CfgNode, source: Source, json_file: Path | None) -> dict[str, Any]:
    """Print the numbers of frames and notes, and write them to `json_file`."""
    reader = source.reader
    train, real = len(reader.train_names), len(reader.real_train_names)
    frames = {"train, photographed": real, "train, rendered": train - real}
    if isinstance(reader, BopReader):
        frames = Counter(name.split("/")[0] for name in reader.train_names)
    frames = {**frames, "test": len(reader.test_names)}
    title = f"{cfg.DATASET}: {len(source.objects)} objects"
    report.show_table(title, ["split", "frames"], [list(row) for row in frames.items()])
    report.log(f"data: {source.summary()}")
    try:
        found = notes(cfg, source)
    except UserError as error:
        found = [f"frames are not checked: {error.message}"]
    for note in found:
        report.log(f"note: {note}")
    payload = {"dataset": cfg.DATASET, "objects": list(source.objects.names), "frames": frames}
    payload["notes"] = found
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload
