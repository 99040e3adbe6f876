"""``--dataset NAME`` alone selects task and recipe: the YAML files below ``configs/<task>/``."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from yacs.config import CfgNode

from ffreid import tasks
from ffreid.config import merge_file, merge_pairs
from ffreid.errors import UserError


def check_root(cfg: CfgNode) -> None:
    """Refuse, before anything heavy is imported, a data set whose folder is not there.

    Raises:
        UserError: saying how to name it.
    """
    tasks.defaults(cfg.TASK).check_root(cfg)


def recipe_folder() -> Path:
    """The folder of recipes: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "configs"


def recipes() -> dict[str, Path]:
    """Data set names and their YAML files."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*/*.yaml"))}


def _found(file: Path, shipped: Path) -> Path:
    """The file itself, or where there is none the shipped recipe of that name."""
    if file.is_file() or not shipped.is_dir():
        return file
    ours = {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    if file.stem not in ours:
        raise UserError(
            f"no file {file}, nor a recipe of that name",
            f"give a YAML file with --cfg FILE, or one of: {', '.join(ours)}",
        )
    return ours[file.stem]


def compose(
    dataset: str,
    *,
    file: Path | None = None,
    pairs: Sequence[str] = (),
    root: Path | None = None,
    output: Path | None = None,
    tag: str | None = None,
    cls: str | None = None,
) -> CfgNode:
    """Merge the task's defaults, the data set's YAML, a recipe, flags and KEY VALUE pairs.

    Args:
        dataset: a name in `recipes`; it selects the task.
        file: a YAML file over the data set's, in place of the recipe that the latter names; also
            the name of a shipped recipe, so that old commands find it.
        pairs: KEY VALUE words, the last word.
        root: folder that holds the data set's folder, or that folder; else $FFREID_DATA.
        output: folder of runs.
        tag: name of this run; where there is a `cls` that comes first in it.
        cls: the one object of a data set that trains a network an object (LineMOD).

    Returns:
        The frozen configuration.

    Raises:
        UserError: unknown data set, key or value.
    """
    known = recipes()
    if dataset not in known:
        close = get_close_matches(dataset, list(known), n=1)
        raise UserError(
            f"unknown data set {dataset!r}",
            f"did you mean {close[0]}?" if close else f"choose one of: {', '.join(known)}",
        )
    defaults = tasks.defaults(known[dataset].parent.name)
    cfg = defaults.defaults()
    merge_file(cfg, known[dataset])
    shipped = known[dataset].parent / "recipes"
    if file is not None:
        merge_file(cfg, _found(file, shipped))
        if "RECIPE" in cfg:
            cfg.RECIPE = str(file)
    elif cfg.get("RECIPE"):
        merge_file(cfg, shipped / f"{cfg.RECIPE}.yaml")
    # A dumped configuration given as file may name others.
    cfg.TASK, cfg.DATASET = known[dataset].parent.name, dataset
    environment = os.environ.get("FFREID_DATA")
    for key, value in (("ROOT", root or environment), ("CLS", cls)):
        if value is not None and key in cfg.DATA:
            cfg.DATA[key] = str(value)
    if output is not None:
        cfg.OUTPUT = str(output)
    if tag is not None:
        cfg.TAG = tag
    merge_pairs(cfg, pairs)
    if (known[dataset].parent.name, dataset) != (cfg.TASK, cfg.DATASET):
        raise UserError("TASK and DATASET follow from --dataset", "leave them out of the settings")
    if cfg.DATA.get("CLS"):
        cfg.TAG = cfg.DATA.CLS if cfg.TAG == "default" else f"{cfg.DATA.CLS}-{cfg.TAG}"
    defaults.check(cfg)
    cfg.freeze()
    return cfg
