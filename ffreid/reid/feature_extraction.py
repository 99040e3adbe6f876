"""Features of records: images with their mirror images, tracklets averaged over their clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid.engine import precision
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.modules import evaluating
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.reid import build
from ffreid.reid.data.batch import UnreadableRecord, collate_for_evaluation, to_images
from ffreid.reid.data.clips import clips_of_tracklets
from ffreid.reid.data.records import EvalSplit, Record, Source, labels, record_path
from ffreid.reid.features import COLUMNS, ExtractedFeatures, LabelledFeatures
from ffreid.reid.retrieval.features import average_clips, check_features, unit

_GATHERED_ROWS = 4096
"""Features per process that are gathered at once."""
_NAMED = 5
"""Unreadable files that are named in a message."""


@dataclass(frozen=True)
class RecordFeatures:
    """Features (N, D), on the CPU, of the readable records, whose indices are `kept` (N,)."""

    features: Tensor
    kept: Tensor
    broken: tuple[UnreadableRecord, ...]


def compute_features(
    cfg: CfgNode, world: World, data: Any, net: nn.Module, spans: Tensor | None = None
) -> RecordFeatures:
    """Compute the features of an `EvalSet` with all processes; each returns all of them.

    `spans` (V, 2), for an `EvalSet` of clips, are the first and end index of each tracklet's.
    """
    share = len(range(world.rank, len(data), world.size))
    local: Tensor | None = None
    broken: list[UnreadableRecord] = []
    dtype, options = precision.dtype(cfg), {"rank": world.rank, "size": world.size}
    options |= {"batch": cfg.DATA.TEST_BATCH, "workers": cfg.DATA.NUM_WORKERS}
    stream = evaluation_stream(data, collate_for_evaluation, **options)
    with evaluating(net), ProgressBar("extracting features", share, show=world.is_main) as bar:
        for items in stream:
            broken += items.broken
            if len(items.index):
                images = to_images(items.images, world.device, dtype)
                features = batch_features(net, images, flip=spans is None)
                if local is None:
                    local = torch.empty(share, features.shape[1], dtype=dtype)
                local[items.index // world.size] = features.to(local.device, dtype)
            bar.advance(len(items.index) + len(items.broken))
    broken = sorted(group.gather_rows(broken), key=lambda item: item.index)
    if len(broken) == len(data):
        first = f": {broken[0].path}: {broken[0].reason}" if broken else ""
        raise UserError(f"no file of the evaluation can be read{first}", "check the dataset")
    features = _gather(local, len(data), dtype, world)
    readable = torch.ones(len(features), dtype=torch.bool)
    readable[[item.index for item in broken]] = False
    if spans is not None:  # an unreadable clip excludes its tracklet
        complete = [bool(readable[start:end].all()) for start, end in spans.tolist()]
        kept = torch.tensor(complete, dtype=torch.bool).nonzero().view(-1)
        return RecordFeatures(average_clips(features, spans[kept]), kept, tuple(broken))
    kept = readable.nonzero().view(-1)
    return RecordFeatures(features if not broken else features[kept], kept, tuple(broken))


def extract_features(
    cfg: CfgNode, world: World, source: Source, net: nn.Module, split: EvalSplit, weights: str
) -> ExtractedFeatures:
    """Extract the features of a split; unreadable records are skipped, see `skipped_notes`."""
    records = (*split.query, *split.gallery)
    items, spans = records, None
    if source.video:
        items, spans = clips_of_tracklets(records, cfg.AUG.SEQ_LEN, cfg.AUG.SAMPLING_STRIDE)
    data = build.evaluation_set(cfg, items, source)
    result = compute_features(cfg, world, data, net, spans)
    broken = {item.path: item.reason for item in result.broken}
    count = len(split.query)
    queries = int((result.kept < count).sum())
    kept = [records[index] for index in result.kept.tolist()]
    row = {index - count: row - queries for row, index in enumerate(result.kept.tolist())}
    return ExtractedFeatures(
        dataset=cfg.DATASET,
        network=cfg.MODEL.NAME,
        weights=weights,
        computed=build.computed(cfg),
        columns=source.columns,
        protocols=split.protocols,
        query=_labelled(result.features[:queries], kept[:queries], "query"),
        gallery=_labelled(result.features[queries:], kept[queries:], "gallery"),
        single_shot=tuple(
            tuple(row[index] for index in trial if index in row)
            for trial in (source.single_shot if split is source.test else ())
        ),
        broken=broken,
        skipped=(count - queries, len(split.gallery) - (len(kept) - queries)),
        names=split.names,
    )


def skipped_notes(features: ExtractedFeatures) -> list[str]:
    """A note on the items that were skipped, if there are any."""
    if not features.broken:
        return []
    queries, items = features.skipped
    named = "; ".join(f"{path}: {why}" for path, why in list(features.broken.items())[:_NAMED])
    return [
        f"{queries} of {queries + len(features.query)} queries and {items} of "
        f"{items + len(features.gallery)} gallery items are skipped, as they cannot be read: "
        f"{named}{', …' if len(features.broken) > _NAMED else ''}"
    ]


def _labelled(features: Tensor, records: Sequence[Record], name: str) -> LabelledFeatures:
    paths = tuple(map(record_path, records))
    check_features(features, name, paths)
    columns = [column for column in COLUMNS if column != "identity"]
    return LabelledFeatures(features=features, labels=labels(records, columns), paths=paths)


@torch.inference_mode()
def batch_features(net: nn.Module, images: Tensor, *, flip: bool) -> Tensor:
    """Compute the features (B, D) of normalised images (B, 3, H, W) or clips (B, 3, T, H, W).

    With `flip` those of mirror images are added and the sums normalised, as in Simple-CCReID.
    """
    features: Tensor = net(images)
    return unit(features + net(images.flip(-1))) if flip else features


def _gather(local: Tensor | None, total: int, dtype: torch.dtype, world: World) -> Tensor:
    """Gather the features of all processes: row i of process r is item i * processes + r."""
    if world.size == 1:
        assert local is not None
        return local
    width = max(group.gather_rows([0 if local is None else local.shape[1]]))
    result = torch.empty(total, width, dtype=dtype)
    for start in range(0, -(-total // world.size), _GATHERED_ROWS):
        rows = min(_GATHERED_ROWS, -(-total // world.size) - start)
        part = torch.zeros(rows, width, dtype=dtype, device=world.device)
        if local is not None:
            values = local[start : start + rows]
            part[: len(values)] = values
        parts = group.gather_with_grad(part).view(world.size, rows, width)
        first = start * world.size
        ordered = parts.transpose(0, 1).reshape(-1, width)[: total - first]
        result[first : first + len(ordered)] = ordered
    return result
