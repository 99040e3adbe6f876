"""``--dataset NAME`` selects task and recipe: the YAML files below ``configs/<task>/``."""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import tasks
from ffreid.config import differing, dumped_settings, merge_file, merge_pairs
from ffreid.errors import UserError


def recipe_folder() -> Path:
    """The folder of recipes: ``configs/`` in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "configs"


def recipes() -> dict[str, Path]:
    """Names of all datasets and their YAML files; a file's folder is named after its task."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*/*.yaml"))}


def compose(
    dataset: str,
    *,
    file: Path | None = None,
    pairs: Sequence[str] = (),
    root: Path | None = None,
    output: Path | None = None,
    tag: str | None = None,
    cls: str | None = None,
    objects: Path | None = None,
) -> CfgNode:
    """Merge the task's defaults, the dataset's YAML, a recipe, flags and KEY VALUE pairs; freeze.

    Args:
        dataset: a name in `recipes`; it selects the task.
        file: YAML file that replaces the recipe named in the dataset's YAML, or the name of a
            shipped recipe, with any folder, as in commands of Simple-CCReID.
        pairs: KEY VALUE pairs; they override everything else.
        root: the dataset's folder or the one that contains it; default: $FFREID_DATA.
        output: folder of runs.
        tag: name of this run; prefixed with `cls`.
        cls: the object, for datasets with one network per object (LineMOD).
        objects: folder of an object set (BOP).
    """
    known = recipes()
    if dataset not in known:
        close = get_close_matches(dataset, list(known), n=1)
        raise UserError(
            f"unknown dataset {dataset!r}",
            f"did you mean {close[0]}?" if close else f"choose one of: {', '.join(known)}",
        )
    task = known[dataset].parent.name
    defaults = tasks.defaults(task)
    cfg = defaults.defaults()
    merge_file(cfg, known[dataset])
    shared = {path.stem: path for path in sorted(known[dataset].parent.glob("recipes/*.yaml"))}
    if file is not None:
        if not os.path.lexists(file) and shared and file.stem not in shared:
            raise UserError(
                f"no file {file}, and no recipe of that name",
                f"use --cfg FILE with a YAML file, or one of: {', '.join(shared)}",
            )
        merge_file(cfg, file if os.path.lexists(file) else shared.get(file.stem, file))
        if "RECIPE" in cfg:
            cfg.RECIPE = str(file)
    elif cfg.get("RECIPE"):
        merge_file(cfg, shared[cfg.RECIPE])
    cfg.TASK, cfg.DATASET = task, dataset  # the file may be another dataset's dumped configuration
    # Toy data go to the cache, not among the user's datasets.
    environment = None if cfg.DATA.LAYOUT.startswith("toy") else os.environ.get("FFREID_DATA")
    for key, value in (("ROOT", root or environment), ("CLS", cls), ("OBJECT_SET", objects)):
        if value is not None and key in cfg.DATA:
            cfg.DATA[key] = str(value)
    if output is not None:
        cfg.OUTPUT = str(output)
    if tag is not None:
        cfg.TAG = tag
    merge_pairs(cfg, pairs)
    if (task, dataset) != (cfg.TASK, cfg.DATASET):
        raise UserError(
            "TASK and DATASET are determined by --dataset", "remove them from the settings"
        )
    if cfg.DATA.get("CLS"):
        cfg.TAG = cfg.DATA.CLS if cfg.TAG == "default" else f"{cfg.DATA.CLS}-{cfg.TAG}"
    defaults.check(cfg)
    cfg.freeze()
    return cfg


_OF_A_RUN = (
    "DATA.ROOT",
    "DATA.OBJECT_SET",
    "OUTPUT",
    "TAG",
    "RECIPE",
    "GPU",
    "EVAL_MODE",
    "MODEL.BACKBONE",
)
"""Settings of training and its machine, which a network does not need, besides MODEL.RESUME."""


def compose_like(
    state: Mapping[str, Any],
    origin: str,
    *,
    dataset: str | None = None,
    cls: str | None = None,
    root: Path | None = None,
    pairs: Sequence[str] = (),
) -> CfgNode:
    """Compose the configuration that a checkpoint of ffreid was trained with.

    Args:
        state: the checkpoint, read from `origin`.
        dataset: needed where the checkpoint does not name it; its settings are used on another's.
        cls: LineMOD's object, likewise.
        root: folder of the dataset; default: $FFREID_DATA, else that at training if it exists.
        pairs: KEY VALUE pairs that override the checkpoint's.
    """
    dataset = dataset or state.get("dataset")
    if not isinstance(dataset, str):
        raise UserError(f"{origin} does not name its dataset", "add --dataset NAME")
    dumped = state.get("config", "{}")
    settings = dumped_settings(dumped)
    if cls is None:
        cls = settings.get("DATA.CLS") or None
    if cls is None and dataset == "linemod":
        cls = next(iter(state.get("classes") or ()), None)
    folder = Path(settings.get("DATA.ROOT") or "")
    if root is None and "FFREID_DATA" not in os.environ and folder.is_dir():
        root = folder
    earlier = [
        text
        for key, then, _ in differing(compose(dataset, cls=cls), dumped)
        if key not in (*_OF_A_RUN, "MODEL.RESUME", "TASK", "DATASET", "DATA.CLS")
        for text in (key, str(then))
    ]
    return compose(dataset, cls=cls, root=root, pairs=[*earlier, *pairs])
