"""Exact CMC, mAP and mINP of several protocols in one pass over chunks of distances.

Matches and junk have the query's identity, so the rank of a match is its rank among all items minus
the junk before it, and one count of ranks serves all protocols. mINP is Ye et al. 2021 (AGW): the
number of matches of a query over the rank of the last one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.reid.retrieval.item_ranks import item_ranks
from ffreid.reid.retrieval.protocols import ColumnFilter, Labels, Protocol, filter_mask, is_match

Distances = Callable[[int, int], Tensor]
"""Distances (stop - start, G) of the queries from start to stop to all gallery items."""

_ON_CPU, _ON_GPU = 1 << 20, 1 << 24
"""Distances ranked at once: few enough for a CPU's cache, enough to keep a GPU busy."""
_BLOCK_BYTES = 64 << 20
_GALLERY_BLOCK = 2048
"""Gallery items multiplied at once on a CPU: 1.3 times as fast as all at once."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Ranks of each query's matches under one protocol, on the CPU.

    Attributes:
        participates: (Q,) booleans, the protocol's queries.
        first: (Q,) int64, 1-based rank of the first match; 0 without a match.
        precision: (Q,) float64 average precision; NaN without a match.
        penalty: (Q,) float64, number of matches over the last one's rank; NaN without a match.
    """

    name: str
    participates: Tensor
    first: Tensor
    precision: Tensor
    penalty: Tensor

    @property
    def valid(self) -> Tensor:
        """(Q,) booleans: queries with a match."""
        return self.first > 0

    @property
    def n_valid(self) -> int:
        """Number of queries with a match."""
        return int(self.valid.sum())

    @property
    def n_skipped(self) -> int:
        """Number of the protocol's queries without a match."""
        return int(self.participates.sum()) - self.n_valid

    def cmc(self, k: int) -> float:
        """Fraction of the valid queries with a match among the first `k`; NaN if there are none."""
        return float((self.first[self.valid] <= k).double().mean())

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision over the valid queries; NaN if there are none."""
        return float(self.precision[self.valid].mean())

    @property
    def mean_inverse_penalty(self) -> float:
        """Mean inverse negative penalty over the valid queries; NaN if there are none."""
        return float(self.penalty[self.valid].mean())


def rank(
    distances: Distances | Tensor, query: Labels, gallery: Labels, protocols: Sequence[Protocol]
) -> list[Ranking]:
    """Rank every query's gallery under each protocol.

    Ties are broken by the gallery index, as in a stable sort. Except for the features and a few
    numbers per query, memory does not depend on the number of queries. The labels, (Q,) and (G,),
    are on the device of the distances (Q, G), which may be a function, see `cosine_distances`.
    """
    matrix = distances
    compute = (lambda start, stop: matrix[start:stop]) if isinstance(matrix, Tensor) else matrix
    queries, items = len(query["identity"]), len(gallery["identity"])
    for name, labels, count in (("query", query, queries), ("gallery", gallery, items)):
        for column, values in labels.items():
            if len(values) != count:
                raise UserError(
                    f"column {column!r} of the {name} has {len(values)} entries, expected {count}",
                    "use one entry per item in every column",
                )
    by_gallery: dict[ColumnFilter, list[Protocol]] = {}
    for protocol in protocols:
        by_gallery.setdefault(protocol.gallery, []).append(protocol)
    groups = [_ProtocolGroup(key, query, gallery, group) for key, group in by_gallery.items()]
    block = max(1, _BLOCK_BYTES // max(4 * items, 1))
    for start in range(0, queries, block):
        if not any(group.count[start : start + block].any() for group in groups):
            continue  # no query has an item of its identity
        values = compute(start, min(start + block, queries))
        for group in groups:
            group.add(start, values)
    rankings = {ranking.name: ranking for group in groups for ranking in group.rankings()}
    assert len(rankings) == len(protocols), "protocols have the same name"
    return [rankings[protocol.name] for protocol in protocols]


def cosine_distances(query: Tensor, gallery: Tensor) -> Distances:
    """Minus the cosines of unit features (Q, D) and (G, D), by rows."""
    blocks = torch.split(gallery, max(len(gallery), 1) if gallery.is_cuda else _GALLERY_BLOCK)

    def distances(start: int, stop: int) -> Tensor:
        rows = query[start:stop]
        return torch.cat([rows @ block.T for block in blocks], dim=1).neg_()

    return distances


class _ProtocolGroup:
    """Protocols with the same gallery, and their results."""

    def __init__(
        self,
        column_filter: ColumnFilter,
        query: Labels,
        gallery: Labels,
        protocols: Sequence[Protocol],
    ) -> None:
        kept = filter_mask(gallery, column_filter)
        self.columns = kept.nonzero().view(-1) if column_filter else None
        self.gallery = {name: values[kept] for name, values in gallery.items()}
        self.query, self.protocols = query, protocols
        self.participates = [filter_mask(query, protocol.queries) for protocol in protocols]
        identity = self.gallery["identity"]
        identities, self.members = identity.sort(stable=True)
        self.start = torch.searchsorted(identities, query["identity"].contiguous())
        end = torch.searchsorted(identities, query["identity"].contiguous(), right=True)
        participates = torch.stack(self.participates).any(dim=0)
        self.count = torch.where(participates, end - self.start, 0)
        shape = (len(protocols), len(self.count))
        self.first = self.count.new_zeros(shape)
        self.precision = self.first.double() * torch.nan
        self.penalty = self.precision.clone()

    def add(self, start: int, distances: Tensor) -> None:
        """Rank the queries from `start` on by their distances (R, G) to the complete gallery."""
        rows = self.count[start : start + len(distances)].nonzero().view(-1)
        items = len(self.gallery["identity"])
        step = max(1, (_ON_GPU if distances.is_cuda else _ON_CPU) // max(items, 64))
        for part in torch.split(rows, step) if len(rows) else ():
            first, last = int(part[0]), int(part[-1])
            is_slice = len(part) == last + 1 - first
            values = distances[first : last + 1] if is_slice else distances[part]
            if self.columns is not None:
                values = values.index_select(1, self.columns)
            low, high = values.aminmax()
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise UserError(
                    "distances are NaN or infinite",
                    "check the features for NaN: the checkpoint may have diverged",
                )
            values = values if values.dtype == torch.float64 else values.float()
            self._rank(part + start, values.contiguous())

    def _rank(self, queries: Tensor, distances: Tensor) -> None:
        count = self.count[queries][:, None]
        offset = torch.arange(int(count.max()), device=count.device)
        valid = offset < count
        position = torch.where(valid, self.start[queries][:, None] + offset, 0)
        members = self.members[position]
        order, ranks = item_ranks(distances, members, valid)
        members, valid = members.gather(1, order), valid.gather(1, order)
        items = {name: values[members] for name, values in self.gallery.items()}
        rows = {name: values[queries][:, None] for name, values in self.query.items()}
        for index, protocol in enumerate(self.protocols):
            match = is_match(protocol, rows, items) & valid
            match &= self.participates[index][queries][:, None]
            without_junk = ranks - (valid & ~match).cumsum(1)  # increasing in each row
            hits = match.cumsum(1)
            total = hits[:, -1]
            first = torch.where(match & (hits == 1), without_junk, 0).amax(dim=1)
            last = torch.where(match, without_junk, 0).amax(dim=1)
            sums = torch.where(match, hits.double() / without_junk, 0.0).sum(dim=1)
            self.first[index, queries] = first
            self.precision[index, queries] = sums / total
            self.penalty[index, queries] = total.double() / last

    def rankings(self) -> list[Ranking]:
        """The results, one per protocol."""
        return [
            Ranking(
                name=protocol.name,
                participates=self.participates[index].cpu(),
                first=self.first[index].cpu(),
                precision=self.precision[index].cpu(),
                penalty=self.penalty[index].cpu(),
            )
            for index, protocol in enumerate(self.protocols)
        ]
