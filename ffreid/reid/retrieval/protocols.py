"""What counts as a match, as data: rules over the identity, camera and clothes columns.

Only gallery items of the query's own identity are ever good or junk. Good are those that agree
and differ with the query in the columns that the protocol names; its other items of that identity
are junk and are taken out of the query's ranking.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.errors import UserError

Labels = Mapping[str, Tensor]
"""Columns by name, each (N,) integers: ``identity``, and where known ``camera``, ``clothes``, …"""

ColumnFilter = tuple[tuple[str, tuple[int, ...]], ...]
"""Columns and the values that are let through; empty lets everything through."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of an evaluation table.

    Attributes:
        name: what the row is called.
        same: columns in which a good match agrees with the query, besides the identity.
        other: columns in which a good match differs from the query.
        queries: which queries take part.
        gallery: which gallery items take part.
    """

    name: str
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ("camera",)
    queries: ColumnFilter = ()
    gallery: ColumnFilter = ()

    @property
    def columns(self) -> set[str]:
        """Names of the columns that the labels must have."""
        filter_mask = {column for column, _ in self.queries + self.gallery}
        return {"identity", *self.same, *self.other, *filter_mask}


GENERAL = Protocol(name="general")
SAME_CLOTHES = Protocol(name="SC", same=("clothes",))
CLOTHES_CHANGING = Protocol(name="CC", other=("camera", "clothes"))
STANDARD = (GENERAL, SAME_CLOTHES, CLOTHES_CHANGING)
"""The three settings of Simple-CCReID for data sets with cameras and outfits."""


def between(name: str, query_cameras: Iterable[int], gallery_cameras: Iterable[int]) -> Protocol:
    """Give the general rule on queries and gallery of certain cameras (as in the labels)."""
    return Protocol(
        name=name,
        queries=(("camera", tuple(query_cameras)),),
        gallery=(("camera", tuple(gallery_cameras)),),
    )


def on_identities(protocol: Protocol, name: str, identities: Iterable[int]) -> Protocol:
    """Give `protocol` under another name, with queries and gallery of those identities only."""
    filter_mask: ColumnFilter = (("identity", tuple(identities)),)
    return Protocol(
        name=name,
        same=protocol.same,
        other=protocol.other,
        queries=protocol.queries + filter_mask,
        gallery=protocol.gallery + filter_mask,
    )


def usable_protocols(
    protocols: Iterable[Protocol], query: Labels, gallery: Labels
) -> tuple[list[Protocol], dict[str, list[str]]]:
    """Part the protocols whose columns are all there from the others.

    Returns:
        The protocols that can be evaluated, and by name of the others their missing columns.
    """
    known = set(query) & set(gallery)
    fit, left_out = [], {}
    for protocol in protocols:
        missing = sorted(protocol.columns - known)
        if missing:
            left_out[protocol.name] = missing
        else:
            fit.append(protocol)
    return fit, left_out


def filter_mask(labels: Labels, choice: ColumnFilter) -> Tensor:
    """Give (N,) booleans: which items `choice` lets through."""
    mask = torch.ones_like(column(labels, "identity"), dtype=torch.bool)
    for name, values in choice:
        of = column(labels, name)
        mask &= torch.isin(of, torch.tensor(values, dtype=of.dtype, device=of.device))
    return mask


def column(labels: Labels, name: str) -> Tensor:
    """Give the column `name` of `labels`.

    Raises:
        UserError: there is none.
    """
    if name not in labels:
        raise UserError(
            f"a protocol needs the column {name!r}, the labels have {', '.join(sorted(labels))}",
            f"add the column {name!r} or choose a protocol without it",
        )
    return labels[name]


def is_match(protocol: Protocol, query: Labels, gallery: Labels) -> Tensor:
    """Tell which pairs of one identity are good matches; the columns broadcast.

    Args:
        query: columns of any shape that broadcasts with the gallery's, e.g. (Q, 1).
        gallery: columns, e.g. (G,) or (Q, M).

    Returns:
        Booleans of the common shape; pairs of different identities are False.
    """
    good = column(query, "identity") == column(gallery, "identity")
    for name in protocol.same:
        good = good & (column(query, name) == column(gallery, name))
    for name in protocol.other:
        good = good & (column(query, name) != column(gallery, name))
    return good


def label_columns(**columns: npt.ArrayLike) -> dict[str, Tensor]:
    """Give columns (N,) of numbers as labels."""
    return {name: torch.as_tensor(np.asarray(values, np.int64)) for name, values in columns.items()}


def match_masks(protocol: Protocol, query: Labels, gallery: Labels) -> tuple[Tensor, Tensor]:
    """Give the good and the junk pairs, each (Q, G) booleans, choices of items left aside."""
    rows = {name: values[:, None] for name, values in query.items()}
    good = is_match(protocol, rows, gallery)
    same = column(rows, "identity") == column(gallery, "identity")
    return good, same & ~good
