"""Table and JSON of an evaluation, with the published results where they are comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ffreid import report
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.published import PublishedResult, publication_notes, published_results
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
    title: str, rows: Sequence[ResultRow], dataset: str, network: str, method: str
) -> None:
    """Print the table of the rows, with notes on the published results."""
    published = published_results(dataset, network, method)
    report.show_table(title, COLUMNS, table(rows, published), digits=1)
    protocols = {row.protocol for row in rows}
    for line in publication_notes(dataset, network, protocols, method):
        report.log(line)


def table(rows: Sequence[ResultRow], published: Mapping[str, PublishedResult]) -> list[list[Cell]]:
    """Cells of the rows under `COLUMNS`, in percent; published results only where comparable."""
    return [_cells(row, published.get(row.protocol) if row.comparable else None) for row in rows]


def as_json(
    rows: Sequence[ResultRow], published: Mapping[str, PublishedResult]
) -> dict[str, dict[str, Any]]:
    """The numbers of each row by its title, unrounded, from 0 to 1."""
    payload = {}
    for row in rows:
        reference = published.get(row.protocol) if row.comparable else None
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
            "published": None if reference is None else asdict(reference),
        }
    return payload


def query_rows(features: ExtractedFeatures, rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Path, identity, and rank of the first match and AP under each row, for each query.

    Queries that do not take part or have no match have no entry for the row.
    """
    columns = [
        (row.title, row.ranking.first.tolist(), row.ranking.precision.tolist())
        for row in rows
        if row.ranking is not None
    ]
    identities = features.query.labels["identity"].tolist()
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
        for index, path in enumerate(features.query.paths)
    ]


def _cells(row: ResultRow, published: PublishedResult | None) -> list[Cell]:
    scores = row.scores
    if not scores.n_valid:
        valid = f"none: {scores.n_skipped} without a match" if scores.n_skipped else "none"
        return [row.title, *[None] * (len(COLUMNS) - 2), valid]
    values = (*scores.cmc.values(), scores.mean_average_precision, scores.mean_inverse_penalty)
    reference = difference = None
    if published is not None:
        reference = f"{_pair(published.rank1, published.mAP)}{published.mark}"
        if published.valid in (None, scores.n_valid):
            gaps = scores.cmc[1] - published.rank1, scores.mean_average_precision - published.mAP
            difference = _pair(*gaps, sign="+")
        else:
            difference = f"on {published.valid} queries"
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
