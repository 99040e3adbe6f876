"""The cache of resized pictures, see `ffreid.engine.cache`."""

from functools import partial
from itertools import chain

from yacs.config import CfgNode

from ffreid.engine import cache
from ffreid.engine.cache import Arrays, Plan
from ffreid.reid.data.dataset import Pictures, UnreadableError
from ffreid.reid.data.pictures import Method, as_pixels, resize
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import is_video


def plan(cfg: CfgNode, source: Source) -> Plan:
    """All pictures of the dataset, before the random crop, (H, W, 3) uint8; frames of tracklets."""
    data = cfg.DATA
    method: Method = "bicubic" if is_video(cfg) else "bilinear"
    resized = {"height": data.HEIGHT, "width": data.WIDTH, "method": method}
    images = Pictures(source.folder, data.DECODE)
    return Plan(
        name=cfg.DATASET,
        home=source.folder,
        settings={"task": "reid", "decode": data.DECODE, **resized},
        files=partial(files, source),
        compute=partial(compute, images, **resized, skip_broken=data.SKIP_BROKEN),
    )


def files(source: Source) -> dict[str, tuple[str]]:
    """The file of each picture by its path."""
    splits = [source.test, *([source.val] if source.val else [])]
    records = [source.train, *(part for split in splits for part in (split.query, split.gallery))]
    frames = (frame for record in chain(*records) for frame in record.frames)
    return {frame: (f"{source.folder}/{frame}",) for frame in frames}


def compute(
    images: Pictures, path: str, *, height: int, width: int, method: Method, skip_broken: bool
) -> Arrays | None:
    """A picture, resized; None if it cannot be read and `skip_broken`."""
    try:
        return (as_pixels(resize(images.read([path])[0], height, width, method)),)
    except UnreadableError:
        if skip_broken:
            return None
        raise


def pictures(cfg: CfgNode, source: Source) -> Pictures:
    """The dataset's pictures, from the cache where they are in it."""
    if "pictures" not in source.opened:
        source.opened["pictures"] = cache.find(plan(cfg, source), cfg.DATA.CACHE)
    return Pictures(source.folder, cfg.DATA.DECODE, source.opened["pictures"])
