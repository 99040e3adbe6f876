"""Table and JSON of an evaluation, with the published results where they are comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ffreid import report
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.nearest import nearest_items
from ffreid.reid.published import PublishedResult
from ffreid.reid.retrieval.scores import RANKS
from ffreid.reid.scoring import ResultRow
from ffreid.report import Cell

COLUMNS: Sequence[str] = (
    "protocol",
    *(f"rank-{k}" for k in RANKS),
    "mAP",
    "mINP",
    "published",
    "difference",
    "95 % interval",
    "valid queries",
)


def show_results(
    title: str,
    rows: Sequence[ResultRow],
    published: Mapping[str, PublishedResult],
    lines: Sequence[str],
) -> None:
    """Print the table of the rows, see `table`, and lines below it."""
    report.show_table(title, COLUMNS, table(rows, published), digits=1)
    for line in lines:
        report.log(line)


def table(rows: Sequence[ResultRow], published: Mapping[str, PublishedResult]) -> list[list[Cell]]:
    """Cells of the rows under `COLUMNS`, in percent; `published` are comparable, by title."""
    return [_cells(row, published.get(row.title)) for row in rows]


def as_json(
    rows: Sequence[ResultRow], published: Mapping[str, PublishedResult], queries: int
) -> dict[str, dict[str, Any]]:
    """The numbers of each row by its title, unrounded, from 0 to 1; `published` as in `table`.

    ``n_valid``, ``n_skipped`` and ``n_outside`` (no part of the protocol) sum to `queries`.
    """
    payload = {}
    for row in rows:
        reference = published.get(row.title)
        payload[row.title] = {
            "protocol": row.protocol,
            "reranked": row.reranked,
            "rank1": row.scores.cmc[1],
            "mAP": row.scores.mean_average_precision,
            "mINP": row.scores.mean_inverse_penalty,
            "cmc": row.scores.cmc,
            "n_valid": row.scores.n_valid,
            "n_skipped": row.scores.n_skipped,
            "n_outside": queries - row.scores.n_valid - row.scores.n_skipped,
            "rank1_interval": row.scores.rank1_interval,
            "mAP_interval": row.scores.precision_interval,
            "single_shot_trials": row.trials,
            "deviation_rank1_mAP": row.deviation,
            "published": None if reference is None else asdict(reference),
        }
    return payload


def query_rows(
    features: ExtractedFeatures, rows: Sequence[ResultRow], device: torch.device
) -> list[dict[str, Any]]:
    """Path and labels of each query, with its result under each row that it takes part in.

    A result is the rank of the first match and AP (None without a match) and, except with
    re-ranking, the nearest gallery items with their labels, cosines, and whether they are matches.
    Labels have the dataset's own names.
    """

    def item(part: LabelledFeatures, index: int) -> dict[str, Any]:
        labels = part.own_names(features.names, features.columns, index)
        return {"path": part.paths[index]} | labels

    queries = [item(features.query, index) for index in range(len(features.query))]
    results: list[dict[str, Any]] = [{} for _ in queries]
    gallery = [item(features.gallery, index) for index in range(len(features.gallery))]
    for row in rows:
        if row.ranking is None:
            continue
        first, precision = row.ranking.first.tolist(), row.ranking.precision.tolist()
        for query in row.ranking.participates.nonzero().view(-1).tolist():
            results[query][row.title] = {
                "first_match": first[query] or None,
                "AP": precision[query],
            }
    titles = {row.protocol: row.title for row in rows if row.ranking and not row.reranked}
    protocols = [protocol for protocol in features.protocols if protocol.name in titles]
    found = nearest_items(features, protocols, range(len(queries)), device)
    for result, by_protocol in zip(results, found, strict=True):
        for name, nearest in by_protocol.items():
            if titles[name] in result:
                result[titles[name]]["nearest"] = [
                    gallery[index] | {"cosine": cosine, "is_match": is_match}
                    for index, is_match, cosine in zip(*nearest, strict=True)
                ]
    return [query | {"protocols": result} for query, result in zip(queries, results, strict=True)]


def _cells(row: ResultRow, published: PublishedResult | None) -> list[Cell]:
    scores = row.scores
    if not scores.n_valid:
        valid = f"none: {scores.n_skipped} without a match" if scores.n_skipped else "none"
        return [row.title, *[None] * (len(COLUMNS) - 2), valid]
    values = (*scores.cmc.values(), scores.mean_average_precision, scores.mean_inverse_penalty)
    reference = difference = None
    if published is not None:
        reference = f"{_pair(published.rank1, published.mAP)}{published.mark}"
        gaps = scores.cmc[1] - published.rank1, scores.mean_average_precision - published.mAP
        difference = _pair(*gaps, sign="+")
    if row.trials:
        interval = row.deviation and f"± {_pair(*row.deviation)} over {row.trials} trials"
    else:
        intervals = filter(None, (scores.rank1_interval, scores.precision_interval))
        interval = " / ".join(f"{100 * low:.1f}–{100 * high:.1f}" for low, high in intervals)
    return [
        row.title,
        *(100 * value for value in values),
        reference,
        difference,
        interval,
        f"{scores.n_valid} ({scores.n_skipped} skipped)",
    ]


def _pair(rank1: float, precision: float, sign: str = "") -> str:
    return f"{100 * rank1:{sign}.1f} / {100 * precision:{sign}.1f}"
