"""Opening the dataset of a configuration, and the checks before training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid.engine import synthetic
from ffreid.engine.distributed import group
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.reid.data.checks import untrainable, without_match
from ffreid.reid.data.own_images import own_image_notes, own_images, seen_in_training
from ffreid.reid.data.readers import READERS
from ffreid.reid.data.readers.files import first_few
from ffreid.reid.data.records import Source
from ffreid.reid.datasets import DATASETS
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.scoring import selecting_protocol
from ffreid.reid.toy.dataset import generate


def open_source(cfg: CfgNode) -> Source:
    """Read the dataset DATA.LAYOUT at DATA.ROOT; toy data are generated on first use."""
    info, folder = DATASETS[cfg.DATA.LAYOUT], synthetic_folder(cfg)
    if folder is None:
        source = READERS[cfg.DATA.LAYOUT](Path(cfg.DATA.ROOT), skip_broken=cfg.DATA.SKIP_BROKEN)
        if source.shared and not cfg.DATA.SHARED_IDENTITIES:
            raise UserError(
                f"in train and in query or gallery: {first_few(source.shared, 'identity')}",
                "use each identity either in train or in query and gallery; if they are the same "
                "on purpose, set DATA.SHARED_IDENTITIES True",
            )
        return source
    sizes = {key.lower(): size for key, size in cfg.DATA.TOY.items()}
    sizes |= {"height": cfg.DATA.HEIGHT, "width": cfg.DATA.WIDTH}
    with ProgressBar("generating toy data") as bar:
        generate(folder, sizes, video=info.is_video, progress=bar.update)
    source = READERS["ccvid" if info.is_video else "ltcc"](folder)
    # Notes and the list of identities are about the real datasets.
    test = replace(source.test, protocols=STANDARD)
    return replace(source, name=cfg.DATASET, test=test, notes=())


def synthetic_folder(cfg: CfgNode) -> Path | None:
    """Folder of toy data, another for each size and seed; None for real datasets."""
    info, toy = DATASETS[cfg.DATA.LAYOUT], cfg.DATA.TOY
    if not info.is_toy:
        return None
    sizes = [toy.IDENTITIES, toy.TEST_IDENTITIES, toy.OUTFITS, toy.CAMERAS, toy.PICTURES]
    sizes += [toy.FRAMES] * info.is_video
    name = f"{'-'.join(map(str, sizes))}-{cfg.DATA.HEIGHT}x{cfg.DATA.WIDTH}-{toy.SEED}"
    return synthetic.toy_folder(cfg.DATA.ROOT, cfg.DATASET, name)


def class_names(source: Source) -> list[str]:
    """Names of the training classes, for checkpoints: identities, then clothes."""
    return [*source.identities, *(f"outfit {name}" for name in source.clothes)]


def checkpoint_entries(cfg: CfgNode, source: Source) -> dict[str, Any]:
    """What checkpoints hold besides the classes: nothing."""
    return {}


def check_entries(source: Source, state: Mapping[str, Any], origin: str) -> None:
    """Check what `checkpoint_entries` gave: nothing."""


def check_source(cfg: CfgNode, source: Source) -> None:
    """Check before training that the data can be learnt from and the best state be selected."""
    check_processes(cfg, group.size())
    selecting_protocol(cfg, source.protocol_names(cfg.TEST.SELECT_ON))
    splits = (source.test, source.split(cfg.TEST.SELECT_ON))
    matchless = (without_match(split, source.columns) for split in splits)
    if problem := next(filter(None, (untrainable(source), *matchless)), None):
        message, hint = problem
        raise UserError(f"{source.folder}: {message}", hint)


def notes(cfg: CfgNode, source: Source) -> list[str]:
    """Lines for the user about the dataset and the settings."""
    lines = list(source.notes)
    for split in {id(s): s for s in (source.test, source.split(cfg.TEST.SELECT_ON))}.values():
        lines += own_image_notes(own_images(split, source), len(split.query))
    lines += seen_in_training(source)
    split = source.split(cfg.TEST.SELECT_ON)
    protocol = selecting_protocol(cfg, names := source.protocol_names(cfg.TEST.SELECT_ON))
    if problem := without_match(split, source.columns, protocol=protocol):
        others = [p for p in names if not without_match(split, source.columns, protocol=p)]
        lines.append(
            f"{problem[0]}: the last checkpoint will be the best; to select it by another "
            f"protocol: TRAIN.SELECT '{others[0]} rank-1 max'"
        )
    if cfg.LOSS.CAL == "cal" and cfg.LOSS.CLOTHES_CLA_LOSS == "crossentropy":
        lines.append(
            "LOSS.CLOTHES_CLA_LOSS crossentropy does not scale the cosines, as in Simple-CCReID"
        )
    if cfg.LOSS.CAL == "cal" and cfg.TRAIN.ACCUMULATE > 1:
        lines.append(
            "CAL updates the clothes classifier before the network: with TRAIN.ACCUMULATE the "
            "forward pass runs twice, about a third more work per step"
        )
    return lines


def check_processes(cfg: CfgNode, size: int) -> None:
    """Refuse a number of processes that cannot share a step."""
    train, groups = cfg.TRAIN, cfg.TRAIN.BN_GROUPS
    step = cfg.DATA.TRAIN_BATCH * groups
    if train.BATCH_NORM == "groups" and groups % size:
        raise UserError(
            f"{size} processes cannot share {groups} batch-norm group{'s' * (groups > 1)}",
            f"set TRAIN.BN_GROUPS {size} (DATA.TRAIN_BATCH is per group), or TRAIN.BATCH_NORM sync",
        )
    if step % size:
        raise UserError(
            f"{size} processes cannot share the {step} samples of a step",
            f"set DATA.TRAIN_BATCH times TRAIN.BN_GROUPS to a multiple of {size}",
        )
    if train.BATCH_NORM == "groups" and groups // size < train.ACCUMULATE:
        raise UserError(
            f"TRAIN.ACCUMULATE {train.ACCUMULATE} splits batch-norm groups: a process has "
            f"{groups // size} of {cfg.DATA.TRAIN_BATCH} samples",
            f"set TRAIN.ACCUMULATE {groups // size} (--amp and TRAIN.ACTIVATION_CHECKPOINTING also "
            "save memory), or TRAIN.BATCH_NORM sync, which normalises each micro-batch",
        )
    if groups % size and cfg.LOSS.PAIR_LOSS_WEIGHT and cfg.LOSS.PAIR_GRADIENT == "own":
        raise UserError(
            f"LOSS.PAIR_GRADIENT own needs complete batch-norm groups, but {size} processes split "
            f"{groups}",
            "set LOSS.PAIR_GRADIENT full",
        )
