"""Features of records: pictures seen from both sides, tracklets by the mean over their clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ffreid import report
from ffreid.engine import precision
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.loading import evaluation_stream
from ffreid.engine.modules import evaluating
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.reid import build
from ffreid.reid.data.batch import UnreadableRecord, collate_for_evaluation
from ffreid.reid.data.clips import clips_of_tracklets
from ffreid.reid.data.records import EvalSplit, Record, Source, labels
from ffreid.reid.features import COLUMNS, ExtractedFeatures, LabelledFeatures
from ffreid.reid.retrieval.features import average_clips, check_finite, flip_and_sum

_ROWS = 4096
"""Features of each process that are gathered at once."""
_NAMED = 5


@dataclass(frozen=True)
class RecordFeatures:
    """What a network makes of records.

    Attributes:
        features: (N, D) of length 1, on the CPU.
        kept: (N,) which records they are of.
        broken: what could not be read, by its index in the data set (pictures or clips).
    """

    features: Tensor
    kept: Tensor
    broken: tuple[UnreadableRecord, ...]


def compute_features(
    data: Any,
    net: nn.Module,
    world: World,
    *,
    dtype: torch.dtype,
    batch: int,
    workers: int,
    spans: Tensor | None = None,
) -> RecordFeatures:
    """Compute the features of a data set in all processes together; each gets all of them.

    Args:
        data: `EvalSet` of pictures, or of clips where `spans` is given.
        net: gives (B, D) of a batch; it is in evaluation mode meanwhile.
        world: this process among those that share the work.
        dtype: of pictures and features.
        batch: pictures or clips at once.
        workers: data workers.
        spans: (V, 2) each tracklet's first clip and the one behind its last.

    Raises:
        UserError: a file cannot be read and is not to be skipped, or not one could be read.
    """
    mine = len(range(world.rank, len(data), world.size))
    own: Tensor | None = None
    broken: list[UnreadableRecord] = []
    stream = evaluation_stream(
        data,
        collate_for_evaluation,
        batch=batch,
        workers=workers,
        rank=world.rank,
        size=world.size,
    )
    with evaluating(net), ProgressBar("extracting features", mine, show=world.is_main) as bar:
        for items in stream:
            broken += items.broken
            if len(items):
                found = batch_features(
                    net, items.to(world.device, dtype).images, flip=spans is None
                )
                if own is None:
                    own = torch.empty(mine, found.shape[1], dtype=dtype)
                own[items.index.cpu() // world.size] = found.to(own.device, dtype)
            bar.advance(len(items) + len(items.broken))
    broken = sorted(group.gather_rows(broken), key=lambda item: item.index)
    if len(broken) == len(data):
        first = f": {broken[0].path}: {broken[0].reason}" if broken else ""
        raise UserError(f"nothing could be read for the evaluation{first}", "check the data set")
    return _kept(_gathered(own, len(data), dtype, world), broken, spans)


def extract_features(
    cfg: CfgNode, world: World, source: Source, net: nn.Module, search: EvalSplit, weights: str
) -> ExtractedFeatures:
    """Give the features of a search; what is broken is left out and said.

    Args:
        cfg: sizes, clips, batch and workers.
        world: this process.
        source: the data set that the search is of.
        net: the network.
        search: queries and gallery.
        weights: where the network's weights come from.
    """
    records = (*search.query, *search.gallery)
    items, spans = records, None
    if source.video:
        items, spans = clips_of_tracklets(records, cfg.AUG.SEQ_LEN, cfg.AUG.SAMPLING_STRIDE)
    found = compute_features(
        build.evaluation_set(cfg, items, source.folder),
        net,
        world,
        dtype=precision.dtype(cfg),
        batch=cfg.DATA.TEST_BATCH,
        workers=cfg.DATA.NUM_WORKERS,
        spans=spans,
    )
    count = len(search.query)
    if world.is_main and found.broken:
        _say_broken(found, len(records), "tracklets" if source.video else "pictures")
    queries = int((found.kept < count).sum())
    kept = [records[index] for index in found.kept.tolist()]
    place = {index - count: row - queries for row, index in enumerate(found.kept.tolist())}
    return ExtractedFeatures(
        dataset=cfg.DATASET,
        network=cfg.MODEL.NAME,
        weights=weights,
        columns=source.columns,
        protocols=search.protocols,
        query=_embedded(found.features[:queries], kept[:queries], "query"),
        gallery=_embedded(found.features[queries:], kept[queries:], "gallery"),
        single_shot=tuple(
            tuple(place[index] for index in some if index in place)
            for some in (source.single_shot if search is source.test else ())
        ),
        broken={item.path: item.reason for item in found.broken},
    )


def record_path(record: Record) -> str:
    """Name a picture by its file and a tracklet by its folder."""
    first = record.frames[0]
    return first if len(record.frames) == 1 else str(PurePosixPath(first).parent)


def _embedded(features: Tensor, records: Sequence[Record], name: str) -> LabelledFeatures:
    check_finite(features, name)
    return LabelledFeatures(
        features=features,
        labels=labels(records, [column for column in COLUMNS if column != "identity"]),
        paths=tuple(map(record_path, records)),
    )


@torch.inference_mode()
def batch_features(net: nn.Module, images: Tensor, *, flip: bool) -> Tensor:
    """Give the features (B, D) of a batch as evaluation takes them.

    Args:
        net: in evaluation mode.
        images: (B, 3, H, W), or (B, 3, T, H, W), normalised, on its device.
        flip: see pictures from both sides and give features of length 1; those of clips come as
            the network has them.
    """
    features: Tensor = net(images)
    return flip_and_sum(features, net(images.flip(-1))) if flip else features


def _gathered(own: Tensor | None, total: int, dtype: torch.dtype, world: World) -> Tensor:
    """Put all processes' features together: row i of process r is item i * processes + r."""
    if world.size == 1:
        assert own is not None
        return own
    width = max(group.gather_rows([0 if own is None else own.shape[1]]))
    whole = torch.empty(total, width, dtype=dtype)
    for start in range(0, -(-total // world.size), _ROWS):
        rows = min(_ROWS, -(-total // world.size) - start)
        part = torch.zeros(rows, width, dtype=dtype, device=world.device)
        if own is not None:
            some = own[start : start + rows]
            part[: len(some)] = some
        parts = group.gather_with_grad(part).view(world.size, rows, width)
        first = start * world.size
        ordered = parts.transpose(0, 1).reshape(-1, width)[: total - first]
        whole[first : first + len(ordered)] = ordered
    return whole


def _kept(
    features: Tensor, broken: Sequence[UnreadableRecord], spans: Tensor | None
) -> RecordFeatures:
    """Leave out what is broken; a broken clip leaves its whole tracklet out."""
    whole = torch.ones(len(features), dtype=torch.bool)
    whole[[item.index for item in broken]] = False
    if spans is not None:
        entire = [bool(whole[first:behind].all()) for first, behind in spans.tolist()]
        kept = torch.tensor(entire, dtype=torch.bool).nonzero().view(-1)
        return RecordFeatures(average_clips(features, spans[kept]), kept, tuple(broken))
    kept = whole.nonzero().view(-1)
    return RecordFeatures(features if not broken else features[kept], kept, tuple(broken))


def _say_broken(found: RecordFeatures, records: int, kind: str) -> None:
    files = {item.path: item.reason for item in found.broken}
    named = "; ".join(f"{path}: {why}" for path, why in list(files.items())[:_NAMED])
    more = ", …" if len(files) > _NAMED else ""
    lost = records - len(found.kept)
    report.log(
        f"note: {lost} of {records} {kind} are left out, as they cannot be read: {named}{more}"
    )
