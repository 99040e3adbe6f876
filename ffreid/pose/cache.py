"""The cache of filled depth and normals, see `ffreid.engine.cache`."""

from contextlib import suppress
from functools import partial

from yacs.config import CfgNode

from ffreid.engine import cache
from ffreid.engine.cache import Arrays, Cache, Plan
from ffreid.errors import UserError
from ffreid.pose.data.dataset import Reader
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.sample import surface
from ffreid.pose.sources import Source


def plan(cfg: CfgNode, source: Source) -> Plan:
    """Depth and normals of the photographed frames: rendered ones get other backgrounds."""
    data, reader = cfg.DATA, source.reader
    prepared = {"shrink": data.SHRINK, "intrinsics": data.INTRINSICS, "holes": reader.fill_holes}
    return Plan(
        name=cfg.DATASET,
        home=reader.folder,
        settings={"task": "pose", **prepared},
        files=partial(files, reader),
        compute=partial(compute, reader, data.SHRINK),
    )


def files(reader: Reader) -> dict[str, list[str]]:
    """The files of each frame by its name."""
    names = list(reader.test_names)
    with suppress(UserError):  # testing needs no list of training frames
        names += reader.real_train_names
    return {name: [str(path) for path in reader.files(name)] for name in names}


def compute(reader: Reader, shrink: int, name: str) -> Arrays:
    """Depth and normals of a frame."""
    return surface(downscale_frame(reader.read(name), shrink), fill_holes=reader.fill_holes)


def find(cfg: CfgNode, source: Source) -> Cache | None:
    """The cache of the dataset, if there is one."""
    if "surfaces" not in source.opened:
        source.opened["surfaces"] = cache.find(plan(cfg, source), cfg.DATA.CACHE)
    return source.opened["surfaces"]
