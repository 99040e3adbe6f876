"""From the features of a search to scores: the rows of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from yacs.config import CfgNode

from ffreid.errors import UserError
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.retrieval.protocols import (
    ColumnFilter,
    Labels,
    Protocol,
    filter_mask,
    usable_protocols,
)
from ffreid.reid.retrieval.ranking import Ranking, cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank
from ffreid.reid.retrieval.scores import RANKS, Scores, scores


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A row of the table.

    Attributes:
        title: the protocol's name, with what was done otherwise.
        protocol: the protocol's name.
        scores: what it gives; the means over the trials where there are several.
        ranking: where each query's matches stand; None where there are several trials.
        reranked: whether by k-reciprocal re-ranking.
        trials: small galleries that were tried in turn; 0 is the whole gallery.
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
        """Whether published numbers of the protocol are of the same procedure."""
        return not self.reranked and not self.trials


def score_protocols(
    search: ExtractedFeatures, device: torch.device, *, reranked: bool = False
) -> list[ResultRow]:
    """Give the rows of all usable protocols, then those of the small galleries.

    Args:
        search: features and protocols.
        device: where to compute.
        reranked: order the gallery by `rerank` instead of the cosine.

    Raises:
        UserError: no protocol can be used, as the labels lack what they need.
    """
    protocols, lacking = usable_protocols(search.protocols, *search.labels(device))
    if not protocols:
        needs = "; ".join(f"{name} needs {', '.join(some)}" for name, some in lacking.items())
        raise UserError(
            f"{search.dataset} cannot be evaluated: {needs or 'it has no protocol'}",
            "complete the labels of its query and gallery",
        )
    identities = search.query.labels["identity"]
    found = rank_protocols(search, search.gallery, protocols, device, reranked=reranked)
    suffix = ", with re-ranking" if reranked else ""
    rows = [
        ResultRow(
            title=ranking.name + suffix,
            protocol=ranking.name,
            scores=scores(ranking, identities),
            ranking=ranking,
            reranked=reranked,
        )
        for ranking in found
    ]
    trials = [
        rank_protocols(
            search,
            search.gallery.some(torch.tensor(some, dtype=torch.int64)),
            protocols,
            device,
            reranked=reranked,
        )
        for some in search.single_shot
    ]
    singles = zip(*trials, strict=True)
    return rows + [_single_shot(trial, suffix, reranked=reranked) for trial in singles]


def selecting_protocol(cfg: CfgNode, names: list[str]) -> str:
    """Protocol of the number that selects the best state: TRAIN.SELECT's, else CC or the first.

    Raises:
        UserError: TRAIN.SELECT names none of the dataset's protocols.
    """
    usual = [name for name in names if name.partition(",")[0] == "CC"] or names
    protocol, *rest = cfg.TRAIN.SELECT.rsplit(" ", 2)
    if len(rest) < 2:  # at most a metric and a direction
        return usual[0]
    if protocol not in names:
        raise UserError(
            f"TRAIN.SELECT: {protocol!r} is not a protocol of {cfg.DATASET}",
            f"choose one of: {', '.join(names)}",
        )
    return str(protocol)


def unusable_protocols(search: ExtractedFeatures) -> dict[str, list[str]]:
    """Name the protocols that cannot be used, each with its missing columns."""
    return usable_protocols(search.protocols, *search.labels(torch.device("cpu")))[1]


def rank_protocols(
    search: ExtractedFeatures,
    gallery: LabelledFeatures,
    protocols: Sequence[Protocol],
    device: torch.device,
    *,
    reranked: bool = False,
) -> list[Ranking]:
    """Rank `gallery` for the queries of `search` under `protocols`.

    Re-ranking sees, as it would if they were alone, the queries and the items that take part.
    """
    labels = search.query.known(search.columns, device), gallery.known(search.columns, device)
    features = search.query.features.to(device), gallery.features.to(device)
    if not reranked:
        return rank(cosine_distances(*features), *labels, protocols)
    groups: dict[tuple[ColumnFilter, ColumnFilter], list[Protocol]] = {}
    for protocol in protocols:
        groups.setdefault((protocol.queries, protocol.gallery), []).append(protocol)
    found: dict[str, Ranking] = {}
    for choices, some in groups.items():
        rows, items = (
            filter_mask(*pair).nonzero().view(-1) for pair in zip(labels, choices, strict=True)
        )
        query, searched = (_rows_of(*pair) for pair in zip(features, (rows, items), strict=True))
        give = rerank if len(rows) and len(items) else cosine_distances
        part = rank(give(query, searched), _rows(labels[0], rows), _rows(labels[1], items), some)
        found |= {one.name: _widened(one, rows.cpu(), len(search.query)) for one in part}
    return [found[protocol.name] for protocol in protocols]


def _single_shot(trials: Sequence[Ranking], suffix: str, *, reranked: bool) -> ResultRow:
    """Average trials as one row."""
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
        deviation=(_deviation(first), _deviation(precision)) if len(trials) > 1 else None,
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


def _rows_of(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Give some rows, in their order; all of them without a copy."""
    return features if len(rows) == len(features) else features[rows]


def _rows(labels: Labels, rows: torch.Tensor) -> Labels:
    return {name: values[rows] for name, values in labels.items()}


def _widened(ranking: Ranking, rows: torch.Tensor, count: int) -> Ranking:
    """Give a ranking of the queries `rows` as one of all `count`; the others take no part."""
    nothing = torch.full((count,), torch.nan, dtype=torch.float64)
    return Ranking(
        name=ranking.name,
        participates=torch.zeros(count, dtype=torch.bool).index_copy(0, rows, ranking.participates),
        first=torch.zeros(count, dtype=torch.int64).index_copy(0, rows, ranking.first),
        precision=nothing.index_copy(0, rows, ranking.precision),
        penalty=nothing.index_copy(0, rows, ranking.penalty),
    )
