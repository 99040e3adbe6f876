"""Exact CMC, mAP and mINP of several protocols in one pass over chunks of distances.

Only a query's own identity can be good or junk, so a good match's rank is its place among all
items less the junk before it, and one count of places serves every protocol. mINP is Ye et al.
2021 (AGW): the matches of a query over the rank of its last one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.reid.retrieval.item_ranks import item_ranks
from ffreid.reid.retrieval.protocols import ColumnFilter, Labels, Protocol, filter_mask, is_match

Distances = Callable[[int, int], Tensor]
"""Gives the distances (stop - start, G) of queries start to stop from all gallery items."""

_ON_CPU, _ON_GPU = 1 << 20, 1 << 24
"""Distances ranked at once: little enough for a CPU's cache, enough to keep a GPU busy."""
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Where the matches of each query stand under one protocol; all columns on the CPU.

    Attributes:
        name: the protocol's.
        takes_part: (Q,) booleans: the protocol's own choice of queries.
        first: (Q,) int64, 1-based rank of the first match; 0 where there is none.
        precision: (Q,) float64 average precision; NaN where there is no match.
        penalty: (Q,) float64, matches over the last one's rank; NaN where there is no match.
    """

    name: str
    participates: Tensor
    first: Tensor
    precision: Tensor
    penalty: Tensor

    @property
    def valid(self) -> Tensor:
        """(Q,) booleans: the queries with a match."""
        return self.first > 0

    @property
    def n_valid(self) -> int:
        """How many queries have a match."""
        return int(self.valid.sum())

    @property
    def n_skipped(self) -> int:
        """How many queries take part and have no match."""
        return int(self.participates.sum()) - self.n_valid

    def cmc(self, k: int) -> float:
        """Share of the valid queries with a match among the first `k`; NaN if there are none."""
        return float((self.first[self.valid] <= k).double().mean())

    def curve(self, length: int) -> Tensor:
        """Give (length,) float64: `cmc` at 1, 2, …, `length`; NaN if no query is valid."""
        first = self.first[self.valid].clamp(max=length + 1)
        hits = torch.bincount(first, minlength=length + 2)[1:-1].cumsum(0)
        return hits.double() / len(first)

    @property
    def mean_average_precision(self) -> float:
        """MAP over the valid queries; NaN if there are none."""
        return float(self.precision[self.valid].mean())

    @property
    def mean_inverse_penalty(self) -> float:
        """Give mINP over the valid queries; NaN if there are none."""
        return float(self.penalty[self.valid].mean())


def rank(
    distances: Distances | Tensor,
    query: Labels,
    gallery: Labels,
    protocols: Sequence[Protocol],
) -> list[Ranking]:
    """Rank every query's gallery under each protocol.

    Ties are broken by the gallery index, as a stable sort would. Beyond the features and a few
    numbers a query, memory does not depend on how many queries there are.

    Args:
        distances: (Q, G) smaller is nearer, or what gives some of its rows (`cosine_distances`).
        query: columns (Q,) on the distances' device.
        gallery: columns (G,) there.
        protocols: what to evaluate.

    Raises:
        UserError: a distance of a query whose identity the gallery has is NaN or infinite; a
            column is missing or of another length.
    """
    give = _rows(distances) if isinstance(distances, Tensor) else distances
    queries, items = len(query["identity"]), len(gallery["identity"])
    _check_lengths(query, queries, "query")
    _check_lengths(gallery, items, "gallery")
    parts = [
        _ProtocolGroup(choice, query, gallery, group) for choice, group in _by_gallery(protocols)
    ]
    block = max(1, _BLOCK_BYTES // max(4 * items, 1))
    for start in range(0, queries, block):
        if all(part.empty(start, start + block) for part in parts):
            continue
        values = give(start, min(start + block, queries))
        for part in parts:
            part.add(start, values)
    found = {ranking.name: ranking for part in parts for ranking in part.rankings()}
    return [found[protocol.name] for protocol in protocols]


def cosine_distances(query: Tensor, gallery: Tensor) -> Distances:
    """Give minus the cosine of unit features (Q, D) and (G, D), by rows."""
    return lambda start, stop: -(query[start:stop] @ gallery.T)


def _rows(matrix: Tensor) -> Distances:
    return lambda start, stop: matrix[start:stop]


def _check_lengths(labels: Labels, count: int, name: str) -> None:
    for column, values in labels.items():
        if len(values) != count:
            raise UserError(
                f"the {name}'s column {column!r} has {len(values)} entries, {count} are expected",
                "give every column one entry an item",
            )


def _by_gallery(protocols: Sequence[Protocol]) -> list[tuple[ColumnFilter, list[Protocol]]]:
    """Group the protocols whose gallery is the same, as they share the counting."""
    assert len({protocol.name for protocol in protocols}) == len(protocols), "names are used twice"
    groups: dict[ColumnFilter, list[Protocol]] = {}
    for protocol in protocols:
        groups.setdefault(protocol.gallery, []).append(protocol)
    return list(groups.items())


def _finite(distances: Tensor) -> Tensor:
    """Give `distances` as float32 or float64, having checked them."""
    low, high = distances.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise UserError(
            "the distances hold NaN or infinity",
            "look for NaN in the features: the checkpoint may have diverged",
        )
    return distances if distances.dtype == torch.float64 else distances.float()


class _ProtocolGroup:
    """The protocols that share a gallery, and what has been found for them."""

    def __init__(
        self, choice: ColumnFilter, query: Labels, gallery: Labels, protocols: Sequence[Protocol]
    ) -> None:
        kept = filter_mask(gallery, choice)
        self.columns = kept.nonzero().view(-1) if choice else None
        self.gallery = {name: values[kept] for name, values in gallery.items()}
        self.query, self.protocols = query, protocols
        self.participates = [filter_mask(query, protocol.queries) for protocol in protocols]
        identity = self.gallery["identity"]
        known, self.members = identity.sort(stable=True)
        self.first = torch.searchsorted(known, query["identity"].contiguous())
        behind = torch.searchsorted(known, query["identity"].contiguous(), right=True)
        anyone = torch.stack([*self.participates]).any(dim=0)
        self.count = torch.where(anyone, behind - self.first, 0)
        shape = (len(protocols), len(self.count))
        self.found_first = torch.zeros(shape, dtype=torch.int64, device=identity.device)
        self.precision = torch.full(shape, torch.nan, dtype=torch.float64, device=identity.device)
        self.penalty = self.precision.clone()

    def empty(self, start: int, stop: int) -> bool:
        """Tell whether no query of the range has an item of its identity."""
        return not bool(self.count[start:stop].any())

    def add(self, start: int, distances: Tensor) -> None:
        """Take in the distances (R, whole gallery) of the queries from `start` on."""
        rows = self.count[start : start + len(distances)].nonzero().view(-1)
        items = len(self.gallery["identity"])
        step = max(1, (_ON_GPU if distances.is_cuda else _ON_CPU) // max(items, 64))
        for some in torch.split(rows, step) if len(rows) else ():
            whole = len(some) == int(some[-1]) + 1 - int(some[0])
            values = distances[int(some[0]) : int(some[-1]) + 1] if whole else distances[some]
            if self.columns is not None:
                values = values.index_select(1, self.columns)
            self._rank(some + start, _finite(values.contiguous()))

    def _rank(self, queries: Tensor, distances: Tensor) -> None:
        count = self.count[queries][:, None]
        offset = torch.arange(int(count.max()), device=count.device)
        real = offset < count
        place = torch.where(real, self.first[queries][:, None] + offset, 0)
        own = self.members[place]
        order, ranks = item_ranks(distances, own, real)
        own, real = own.gather(1, order), real.gather(1, order)
        items = {name: values[own] for name, values in self.gallery.items()}
        rows = {name: values[queries][:, None] for name, values in self.query.items()}
        for index, protocol in enumerate(self.protocols):
            good = is_match(protocol, rows, items) & real
            good &= self.participates[index][queries][:, None]
            among = ranks - (real & ~good).cumsum(1)
            self._store(index, queries, good, among)

    def _store(self, index: int, queries: Tensor, good: Tensor, ranks: Tensor) -> None:
        """Keep what the good matches' ranks (R, M), rising in each row, say of the queries."""
        hits = good.cumsum(1)
        total = hits[:, -1]
        precision = torch.where(good, hits.double() / ranks, 0.0).sum(dim=1) / total
        last = torch.where(good, ranks, 0).amax(dim=1)
        first = torch.where(good & (hits == 1), ranks, 0).amax(dim=1)
        self.found_first[index, queries] = first
        self.precision[index, queries] = precision
        self.penalty[index, queries] = total.double() / last

    def rankings(self) -> list[Ranking]:
        """Give what was found, a protocol each."""
        return [
            Ranking(
                name=protocol.name,
                participates=self.participates[index].cpu(),
                first=self.found_first[index].cpu(),
                precision=self.precision[index].cpu(),
                penalty=self.penalty[index].cpu(),
            )
            for index, protocol in enumerate(self.protocols)
        ]
