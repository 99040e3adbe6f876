"""Evaluation protocols as data: rules over the identity, camera and clothes columns.

Gallery items of the query's identity are matches if they agree and differ with the query in the
protocol's columns; otherwise they are junk and excluded from the query's ranking.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Labels = Mapping[str, Tensor]
"""Columns by name, (N,) integers each: ``identity``, and if known ``camera``, ``clothes``, …"""

ColumnFilter = tuple[tuple[str, tuple[int, ...]], ...]
"""Columns and their accepted values; empty accepts everything."""


UNKNOWN = -(2**63)
"""A label that is not known: such items are no matches where the column is compared."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of an evaluation table.

    Attributes:
        same: columns in which a match agrees with the query, besides the identity.
        other: columns in which a match differs from the query.
        queries, gallery: filters of the items that take part.
    """

    name: str
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ("camera",)
    queries: ColumnFilter = ()
    gallery: ColumnFilter = ()

    @property
    def columns(self) -> set[str]:
        """Names of the required label columns."""
        filtered = {column for column, _ in self.queries + self.gallery}
        return {"identity", *self.same, *self.other, *filtered}


GENERAL = Protocol(name="general")
SAME_CLOTHES = Protocol(name="SC", same=("clothes",))
CLOTHES_CHANGING = Protocol(name="CC", other=("camera", "clothes"))
STANDARD = (GENERAL, SAME_CLOTHES, CLOTHES_CHANGING)
"""The three settings of Simple-CCReID for datasets with cameras and clothes."""


def between(name: str, query_cameras: Iterable[int], gallery_cameras: Iterable[int]) -> Protocol:
    """The general protocol on queries and gallery of certain cameras (as in the labels)."""
    return Protocol(
        name=name,
        queries=(("camera", tuple(query_cameras)),),
        gallery=(("camera", tuple(gallery_cameras)),),
    )


def on_identities(protocol: Protocol, name: str, identities: Iterable[int]) -> Protocol:
    """`protocol` under another name, on queries and gallery of those identities only."""
    by_identity: ColumnFilter = (("identity", tuple(identities)),)
    return replace(
        protocol,
        name=name,
        queries=protocol.queries + by_identity,
        gallery=protocol.gallery + by_identity,
    )


def usable_protocols(
    protocols: Sequence[Protocol], query: Labels, gallery: Labels
) -> tuple[list[Protocol], dict[str, list[str]]]:
    """The protocols whose columns are known, and the missing columns of the others by name."""
    known = set(query) & set(gallery)
    missing = {p.name: sorted(columns) for p in protocols if (columns := p.columns - known)}
    return [protocol for protocol in protocols if protocol.columns <= known], missing


def filter_mask(labels: Labels, column_filter: ColumnFilter) -> Tensor:
    """(N,) booleans of the items that `column_filter` accepts."""
    mask = torch.ones_like(labels["identity"], dtype=torch.bool)
    for name, values in column_filter:
        label = labels[name]
        mask &= torch.isin(label, torch.tensor(values, dtype=label.dtype, device=label.device))
    return mask


def is_match(protocol: Protocol, query: Labels, gallery: Labels) -> Tensor:
    """Whether pairs are matches; the columns broadcast, e.g. (Q, 1) with (G,) or (Q, M)."""
    match = query["identity"] == gallery["identity"]
    for name in protocol.same:
        match = match & (query[name] == gallery[name])
    for name in protocol.other:
        match = match & (query[name] != gallery[name])
    for name in (*protocol.same, *protocol.other):
        match = match & (query[name] != UNKNOWN) & (gallery[name] != UNKNOWN)
    return match


def label_columns(**columns: npt.ArrayLike) -> dict[str, Tensor]:
    """Labels from columns (N,) of numbers."""
    return {name: torch.as_tensor(np.asarray(values, np.int64)) for name, values in columns.items()}


def match_masks(protocol: Protocol, query: Labels, gallery: Labels) -> tuple[Tensor, Tensor]:
    """The matches and the junk pairs, (Q, G) booleans each, without the protocol's filters."""
    rows = {name: values[:, None] for name, values in query.items()}
    match = is_match(protocol, rows, gallery)
    same = rows["identity"] == gallery["identity"]
    return match, same & ~match
