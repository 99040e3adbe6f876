"""From extracted features to the rows of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from yacs.config import CfgNode

from ffreid.errors import UserError
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.retrieval.protocols import ColumnFilter, Protocol, filter_mask, usable_protocols
from ffreid.reid.retrieval.ranking import Ranking, cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank
from ffreid.reid.retrieval.scores import RANKS, Scores, scores


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A row of the table: a protocol on the complete gallery or on single-shot galleries.

    Attributes:
        scores: means over the trials, if any.
        ranking: None with trials.
        trials: number of single-shot galleries; 0: the complete gallery.
        deviation: standard deviation of rank-1 and of mAP over the trials.
    """

    title: str
    protocol: str
    scores: Scores
    ranking: Ranking | None = None
    reranked: bool = False
    trials: int = 0
    deviation: tuple[float, float] | None = None

    @property
    def comparable(self) -> bool:
        """Whether published results of the protocol used the same procedure."""
        return not self.reranked and not self.trials


def score_protocols(
    features: ExtractedFeatures, device: torch.device, *, reranked: bool = False
) -> list[ResultRow]:
    """Score all usable protocols, then those of the single-shot galleries."""
    protocols, missing = usable_protocols(features.protocols, *features.labels(device))
    if not protocols:
        needs = "; ".join(f"{name} needs {', '.join(columns)}" for name, columns in missing.items())
        raise UserError(
            f"{features.dataset} cannot be evaluated: {needs or 'it has no protocol'}",
            "add the missing labels of its query and gallery",
        )
    suffix = ", with re-ranking" if reranked else ""
    galleries = [torch.tensor(gallery, dtype=torch.int64) for gallery in features.single_shot]
    complete, *trials = (
        rank_protocols(features, gallery, protocols, device, reranked=reranked)
        for gallery in (features.gallery, *map(features.gallery.select, galleries))
    )
    rows = [
        ResultRow(
            title=ranking.name + suffix,
            protocol=ranking.name,
            scores=scores(ranking, features.query.labels["identity"]),
            ranking=ranking,
            reranked=reranked,
        )
        for ranking in complete
    ]
    return rows + [_mean_row(t, suffix, reranked=reranked) for t in zip(*trials, strict=True)]


def selecting_protocol(cfg: CfgNode, names: list[str]) -> str:
    """Protocol that selects the best state: that of TRAIN.SELECT, else CC, else the first."""
    protocol, *rest = cfg.TRAIN.SELECT.rsplit(" ", 2)
    if len(rest) < 2:  # at most a metric and a direction
        return ([name for name in names if name.partition(",")[0] == "CC"] or names)[0]
    if protocol not in names:
        raise UserError(
            f"TRAIN.SELECT: {protocol!r} is not a protocol of {cfg.DATASET}",
            f"choose one of: {', '.join(names)}",
        )
    return str(protocol)


def unusable_protocols(features: ExtractedFeatures) -> dict[str, list[str]]:
    """Names of the protocols that cannot be used, each with its missing columns."""
    return usable_protocols(features.protocols, *features.labels(torch.device("cpu")))[1]


def rank_protocols(
    features: ExtractedFeatures,
    gallery: LabelledFeatures,
    protocols: Sequence[Protocol],
    device: torch.device,
    *,
    reranked: bool = False,
) -> list[Ranking]:
    """Rank `gallery` for the queries under `protocols`.

    Re-ranking uses only the queries and gallery items that take part in a protocol.
    """
    labels = features.query.known(features.columns, device), gallery.known(features.columns, device)
    values = features.query.features.to(device), gallery.features.to(device)
    if not reranked:
        return rank(cosine_distances(*values), *labels, protocols)
    groups: dict[tuple[ColumnFilter, ColumnFilter], list[Protocol]] = {}
    for protocol in protocols:
        groups.setdefault((protocol.queries, protocol.gallery), []).append(protocol)
    rankings: dict[str, Ranking] = {}
    for filters, group in groups.items():
        rows, items = (
            filter_mask(*pair).nonzero().view(-1) for pair in zip(labels, filters, strict=True)
        )
        # All rows without a copy.
        selected = [
            v if len(i) == len(v) else v[i] for v, i in zip(values, (rows, items), strict=True)
        ]
        method = rerank if len(rows) and len(items) else cosine_distances
        query, known = (
            {name: column[i] for name, column in columns.items()}
            for columns, i in zip(labels, (rows, items), strict=True)
        )
        results = rank(method(*selected), query, known, group)
        rankings |= {r.name: _expand(r, rows.cpu(), len(features.query)) for r in results}
    return [rankings[protocol.name] for protocol in protocols]


def _mean_row(trials: Sequence[Ranking], suffix: str, *, reranked: bool) -> ResultRow:
    name = trials[0].name
    first = [trial.cmc(1) for trial in trials]
    precision = [trial.mean_average_precision for trial in trials]
    return ResultRow(
        title=f"{name}, single-shot{suffix}",
        protocol=name,
        scores=Scores(
            name=name,
            cmc={k: fmean(trial.cmc(k) for trial in trials) for k in RANKS},
            mean_average_precision=fmean(precision),
            mean_inverse_penalty=fmean(trial.mean_inverse_penalty for trial in trials),
            n_valid=min(trial.n_valid for trial in trials),
            n_skipped=max(trial.n_skipped for trial in trials),
            rank1_interval=None,
            precision_interval=None,
        ),
        reranked=reranked,
        trials=len(trials),
        deviation=(float(np.std(first, ddof=1)), float(np.std(precision, ddof=1)))
        if len(trials) > 1
        else None,
    )


def _expand(ranking: Ranking, rows: torch.Tensor, count: int) -> Ranking:
    """Turn a ranking of the queries `rows` into one of all `count`; the others take no part."""

    def expand(values: torch.Tensor, fill: float) -> torch.Tensor:
        return values.new_full((count,), fill).index_copy(0, rows, values)

    return Ranking(
        name=ranking.name,
        participates=expand(ranking.participates, False),
        first=expand(ranking.first, 0),
        precision=expand(ranking.precision, torch.nan),
        penalty=expand(ranking.penalty, torch.nan),
    )
