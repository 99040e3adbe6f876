"""The data sets of re-identification by layout, with the checks before training."""

from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from ffreid.engine import synthetic
from ffreid.engine.distributed import group
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.reid.data.readers import LISTED, READERS
from ffreid.reid.data.records import Source
from ffreid.reid.defaults import TOYS, VIDEO_LAYOUTS
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.scoring import selecting_protocol
from ffreid.reid.toy.dataset import ensure_dataset


def open_source(cfg: CfgNode) -> Source:
    """Open the data set that the configuration names.

    Raises:
        UserError: its folder is not there, incomplete, or contradicts itself.
    """
    if cfg.DATA.LAYOUT in TOYS:
        return _toy(cfg)
    name, root = cfg.DATA.LAYOUT, Path(cfg.DATA.ROOT)
    if name in LISTED:
        return READERS[name](root, skip_broken=cfg.DATA.SKIP_BROKEN)
    return READERS[name](root)


def _toy(cfg: CfgNode) -> Source:
    """Draw the toy data on first use; of several processes only the first draws."""
    toy, video = cfg.DATA.TOY, cfg.DATA.LAYOUT in VIDEO_LAYOUTS
    folder = toy_folder(cfg)
    with ProgressBar("drawing people") as bar:
        ensure_dataset(
            folder,
            video=video,
            identities=toy.IDENTITIES,
            test_identities=toy.TEST_IDENTITIES,
            clothes=toy.OUTFITS,
            cameras=toy.CAMERAS,
            images=toy.PICTURES,
            frames=toy.FRAMES,
            height=cfg.DATA.HEIGHT,
            width=cfg.DATA.WIDTH,
            seed=toy.SEED,
            progress=bar.update,
        )
    source = READERS["ccvid" if video else "ltcc"](folder)
    # What is to know of the real data sets is not true of these.
    test = replace(source.test, protocols=STANDARD)
    return replace(source, name=cfg.DATASET, test=test, notes=())


def synthetic_folder(cfg: CfgNode) -> Path | None:
    """Where the data are that are made on first use; None for those that are not."""
    return toy_folder(cfg) if cfg.DATA.LAYOUT in TOYS else None


def toy_folder(cfg: CfgNode) -> Path:
    """Where the toy data lie: a folder for each size and seed."""
    toy = cfg.DATA.TOY
    sizes = [toy.IDENTITIES, toy.TEST_IDENTITIES, toy.OUTFITS, toy.CAMERAS, toy.PICTURES]
    sizes += [toy.FRAMES] * (cfg.DATA.LAYOUT in VIDEO_LAYOUTS)
    name = f"{'-'.join(map(str, sizes))}-{cfg.DATA.HEIGHT}x{cfg.DATA.WIDTH}-{toy.SEED}"
    return synthetic.toy_folder(cfg.DATA.ROOT, cfg.DATASET, name)


def class_names(source: Source) -> list[str]:
    """What training tells apart, for checkpoints: identities, then outfits."""
    return [*source.identities, *(f"outfit {name}" for name in source.clothes)]


def check_source(cfg: CfgNode, source: Source) -> None:
    """Refuse now what would fail later.

    Raises:
        UserError: the processes cannot share a step, or the selecting protocol is none of the
            data set's.
    """
    check_processes(cfg, group.size())
    search = source.val if cfg.TEST.SELECT_ON == "val" and source.val is not None else source.test
    known = {"identity", *source.columns}
    selecting_protocol(cfg, [p.name for p in search.protocols if p.columns <= known])


def notes(cfg: CfgNode, source: Source) -> list[str]:
    """Say what people should know of the data set and the settings, a line each."""
    found = list(source.notes)
    if cfg.LOSS.CAL == "cal" and cfg.LOSS.CLOTHES_CLA_LOSS == "crossentropy":
        found.append(
            "LOSS.CLOTHES_CLA_LOSS crossentropy leaves the cosines unscaled, as the original does"
        )
    if cfg.LOSS.CAL == "cal" and cfg.TRAIN.ACCUMULATE > 1:
        found.append(
            "CAL steps the clothes classifier before the network: parts run the network forward "
            "twice, about a third more work a step"
        )
    return found


def check_processes(cfg: CfgNode, size: int) -> None:
    """Refuse a number of processes that cannot share a step.

    Raises:
        UserError: saying what to set.
    """
    train, groups = cfg.TRAIN, cfg.TRAIN.BN_GROUPS
    step = cfg.DATA.TRAIN_BATCH * groups
    if train.BATCH_NORM == "groups" and groups % size:
        raise UserError(
            f"{size} processes cannot share {groups} batch-norm group{'s' * (groups > 1)}",
            f"set TRAIN.BN_GROUPS {size} (DATA.TRAIN_BATCH is of one group), or TRAIN.BATCH_NORM "
            "sync",
        )
    if step % size:
        raise UserError(
            f"{size} processes cannot share the {step} samples of a step",
            f"set DATA.TRAIN_BATCH times TRAIN.BN_GROUPS to a multiple of {size}",
        )
    if train.BATCH_NORM == "groups" and groups // size < train.ACCUMULATE:
        raise UserError(
            f"TRAIN.ACCUMULATE {train.ACCUMULATE} cuts a process's batch-norm groups apart: it has "
            f"{groups // size} of {cfg.DATA.TRAIN_BATCH} samples",
            f"set TRAIN.ACCUMULATE {groups // size} (--amp and TRAIN.ACTIVATION_CHECKPOINTING take "
            "less memory too), or TRAIN.BATCH_NORM sync, where batch norm sees a part at a time",
        )
    if groups % size and cfg.LOSS.PAIR_LOSS_WEIGHT and cfg.LOSS.PAIR_GRADIENT == "own":
        raise UserError(
            f"LOSS.PAIR_GRADIENT own is of a group, and {size} processes cut {groups} apart",
            "set LOSS.PAIR_GRADIENT full",
        )
