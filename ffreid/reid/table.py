"""The evaluation's table and files, with the published results where they are comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ffreid.reid.features import ExtractedFeatures
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


def table(rows: Sequence[ResultRow], published: Mapping[str, PublishedResult]) -> list[list[Cell]]:
    """Lay rows out under `COLUMNS`, in percent; published numbers only where comparable."""
    return [_cells(row, published.get(row.protocol) if row.comparable else None) for row in rows]


def as_json(
    rows: Sequence[ResultRow], published: Mapping[str, PublishedResult]
) -> dict[str, dict[str, Any]]:
    """Give each row's numbers by its title, unrounded shares of 1."""
    payload = {}
    for row in rows:
        theirs = published.get(row.protocol) if row.comparable else None
        payload[row.title] = {
            "protocol": row.protocol,
            "reranked": row.reranked,
            "rank1": row.scores.cmc[1],
            "mAP": row.scores.mean_average_precision,
            "mINP": row.scores.mean_inverse_penalty,
            "cmc": row.scores.cmc,
            "n_valid": row.scores.n_valid,
            "n_skipped": row.scores.n_skipped,
            "rank1_interval": row.scores.rank1_interval,
            "mAP_interval": row.scores.precision_interval,
            "single_shot_trials": row.trials,
            "deviation_rank1_mAP": row.deviation,
            "published": None if theirs is None else asdict(theirs),
        }
    return payload


def query_rows(search: ExtractedFeatures, rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Give for each query its path, identity, and first match's rank and AP under each row.

    Queries that do not take part or have no match have no entry for the row.
    """
    columns = [
        (row.title, row.ranking.first.tolist(), row.ranking.precision.tolist())
        for row in rows
        if row.ranking is not None
    ]
    identities = search.query.labels["identity"].tolist()
    return [
        {
            "path": path,
            "identity": identities[index],
            "protocols": {
                title: {"first_match": first[index], "AP": precision[index]}
                for title, first, precision in columns
                if first[index]
            },
        }
        for index, path in enumerate(search.query.paths)
    ]


def _cells(row: ResultRow, published: PublishedResult | None) -> list[Cell]:
    ours = row.scores
    if not ours.n_valid:
        said = f"none: {ours.n_skipped} without a match" if ours.n_skipped else "none takes part"
        return [row.title, *[None] * (len(COLUMNS) - 2), said]
    shares = (*ours.cmc.values(), ours.mean_average_precision, ours.mean_inverse_penalty)
    theirs = difference = None
    if published is not None:
        theirs = f"{_pair(published.rank1, published.mAP)}{published.mark}"
        if published.valid in (None, ours.n_valid):
            gaps = ours.cmc[1] - published.rank1, ours.mean_average_precision - published.mAP
            difference = _pair(*gaps, sign="+")
        else:
            difference = f"of {published.valid} queries"
    return [
        row.title,
        *(100 * share for share in shares),
        theirs,
        difference,
        _spread(row),
        f"{ours.n_valid} ({ours.n_skipped} skipped)",
    ]


def _spread(row: ResultRow) -> str | None:
    if row.trials:
        trials = f"over {row.trials} trials"
        return None if row.deviation is None else f"± {_pair(*row.deviation)} {trials}"
    spans = (row.scores.rank1_interval, row.scores.precision_interval)
    return " / ".join(f"{100 * low:.1f}–{100 * high:.1f}" for low, high in filter(None, spans))


def _pair(rank1: float, precision: float, sign: str = "") -> str:
    return f"{100 * rank1:{sign}.1f} / {100 * precision:{sign}.1f}"
