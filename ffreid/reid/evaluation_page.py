"""The HTML page of an evaluation: results, CMC, similarities, rank lists, times."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffreid.engine import page
from ffreid.reid.data.records import Source
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.published import PublishedResult
from ffreid.reid.retrieval.protocols import Protocol, filter_mask, match_masks
from ffreid.reid.scoring import ResultRow
from ffreid.reid.table import COLUMNS, table
from ffreid.reid.visualization import evenly_spread_queries, rank_list_images, row_to_draw
from ffreid.report import as_text

MAX_RANK, BINS, SHOWN_BINS, LISTS = 50, 4000, 60, 9
_BLOCK = 256
"""Queries compared at a time."""


def write(
    path: Path,
    payload: Mapping[str, Any],
    features: ExtractedFeatures,
    rows: Sequence[ResultRow],
    published: Mapping[str, PublishedResult],
    lines: Sequence[str],
    *,
    source: Source | None,
    seconds: Mapping[str, float],
) -> None:
    """Write the page; without a `source` (saved features) it has no rank lists."""
    cells = [[as_text(cell, 1) for cell in row] for row in table(rows, published)]
    shown = [row for row in rows if row.ranking is not None and row.scores.n_valid]
    cmc = {row.title: _cmc(row) for row in shown}
    protocols = {p.name: p for p in features.protocols}
    similarities = [
        (f"{row.title}: cosines of queries and gallery", _distributions(features, protocol))
        for row in shown
        if not row.reranked and (protocol := protocols[row.protocol])
    ]
    total = sum(seconds.values())
    sections = [
        page.Section(
            title="Results",
            lines=[
                str(payload.get("origin") or payload.get("weights")),
                "percent; pairs are rank-1 / mAP; intervals are 95 %, of identities drawn anew",
                *lines,
            ],
            columns=COLUMNS,
            rows=cells,
        ),
        page.Section(
            title="Cumulative matching",
            figures=[
                (
                    f"Queries with a match among the first k, up to {MAX_RANK}",
                    page.curves(cmc, x="k", y="percent of valid queries"),
                )
            ],
        ),
        page.Section(title="Similarity of the same and of other people", figures=similarities),
        _rank_lists(features, rows, source),
        page.Section(
            title="Time",
            columns=("stage", "seconds", "share in percent"),
            rows=[[name, time, 100 * time / total] for name, time in seconds.items()],
        ),
        page.Section(
            title="Settings",
            lines=[f"{name}: {value}" for name, value in payload["provenance"].items()],
            code=payload["config"],
        ),
    ]
    page.write(path, f"{features.dataset}: {features.network}", sections)


def _cmc(row: ResultRow) -> tuple[list[int], list[float]]:
    assert row.ranking is not None
    ranks = list(range(1, MAX_RANK + 1))
    return ranks, [100 * row.ranking.cmc(k) for k in ranks]


def _distributions(features: ExtractedFeatures, protocol: Protocol) -> str:
    same, other = similarity_histograms(features, protocol)
    used = np.flatnonzero((same + other).numpy())
    first, last = (used[0], used[-1] + 1) if len(used) else (0, BINS)
    width = -(-(last - first) // SHOWN_BINS)  # of a bar, in bins
    starts = np.arange(first, last, width)
    lines = {
        name: (starts * 2 / BINS - 1, 100 * np.add.reduceat(counts, starts) / max(counts.sum(), 1))
        for name, counts in (("same person", same.numpy()), ("other people", other.numpy()))
    }
    return page.curves(lines, x="cosine", y="percent of pairs", steps=True)


def similarity_histograms(features: ExtractedFeatures, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Counts (BINS,) of the cosines from -1 to 1 of matches and of pairs of other people.

    Pairs that the protocol ignores are in neither.
    """
    labels, gallery = features.labels(torch.device("cpu"))
    takes_part = filter_mask(gallery, protocol.gallery)
    queries = filter_mask(labels, protocol.queries).nonzero().view(-1)
    same, other = torch.zeros(BINS), torch.zeros(BINS)
    for part in torch.split(queries, _BLOCK):
        match, junk = match_masks(protocol, {n: v[part] for n, v in labels.items()}, gallery)
        cosines = (features.query.features[part] @ features.gallery.features.T).float()
        for counts, chosen in ((same, match), (other, ~match & ~junk)):
            counts += torch.histc(cosines[chosen & takes_part], BINS, -1, 1)
    return same, other


def _rank_lists(
    features: ExtractedFeatures, rows: Sequence[ResultRow], source: Source | None
) -> page.Section:
    title, row = "Rank lists", row_to_draw(rows)
    if source is None or row is None or row.ranking is None:
        why = "no query has a match" if source else "saved features have no images"
        return page.Section(title=title, lines=[f"None: {why}."])
    queries = evenly_spread_queries(row.ranking, LISTS)
    images = rank_list_images(source, source.test, features, row, queries)
    drawn = [
        (f"average precision {100 * float(row.ranking.precision[query]):.1f} %", page.embed(image))
        for query, image in zip(queries, images, strict=True)
    ]
    line = f"{row.title}: from the worst to the best; matches are green, others red."
    return page.Section(title=title, lines=[line], images=drawn)
