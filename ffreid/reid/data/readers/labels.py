"""From what names say to numbered labels: the same numbers whatever the file system gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ffreid.errors import UserError
from ffreid.reid.data.readers.listing import some
from ffreid.reid.data.records import Record, Search
from ffreid.reid.retrieval.protocols import Protocol

NO_OUTFITS = "no outfits: SC and CC are left out, and CAL is a normalised softmax over identities"

Order = Callable[[str], Any]
"""What identities or outfits are told apart and sorted by."""


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or tracklet with its labels as the data set writes them.

    Attributes:
        frames: paths below the data set's folder.
        identity: the person's name.
        camera: number.
        outfit: name of the clothes; only those of one identity are ever the same outfit.
    """

    frames: tuple[str, ...]
    identity: str
    camera: int
    outfit: str


class Labelled(NamedTuple):
    """Records with labels from 0, and what the labels stand for."""

    records: tuple[Record, ...]
    identities: tuple[str, ...]
    outfits: tuple[str, ...]


def labelled(
    items: Sequence[Item], *, identity_order: Order = int, outfit_order: Order = str
) -> Labelled:
    """Number identities and outfits from 0, each in sorted order."""
    identities = {identity_order(item.identity): item.identity for item in items}
    outfits = {_outfit(item, identity_order, outfit_order): item.outfit for item in items}
    identity_of = {key: label for label, key in enumerate(sorted(identities))}
    outfit_of = {key: label for label, key in enumerate(sorted(outfits))}
    records = tuple(
        Record(
            item.frames,
            identity_of[identity_order(item.identity)],
            item.camera,
            outfit_of[_outfit(item, identity_order, outfit_order)],
        )
        for item in items
    )
    return Labelled(
        records,
        tuple(identities[key] for key in identity_of),
        tuple(outfits[key] for key in outfit_of),
    )


def search(
    query: Sequence[Item],
    gallery: Sequence[Item],
    protocols: Sequence[Protocol],
    *,
    number: Callable[[str], int] = int,
    outfit_order: Order = str,
) -> Search:
    """Give identities by their own number, outfits numbered from 0 over query and gallery."""
    keys = sorted({_outfit(item, number, outfit_order) for item in (*query, *gallery)})
    outfit_of = {key: label for label, key in enumerate(keys)}

    def records(items: Sequence[Item]) -> tuple[Record, ...]:
        return tuple(
            Record(
                item.frames,
                number(item.identity),
                item.camera,
                outfit_of[_outfit(item, number, outfit_order)],
            )
            for item in items
        )

    return Search(query=records(query), gallery=records(gallery), protocols=tuple(protocols))


def check_disjoint(
    train: Sequence[Item],
    others: Mapping[str, Sequence[Item]],
    hint: str,
    *,
    identity_order: Order = int,
) -> None:
    """Check that nobody who trains stands in the other splits.

    Args:
        train: training items.
        others: other splits' items by the split's name.
        hint: what to do, for the error.
        identity_order: what identities are told apart by.

    Raises:
        UserError: somebody does: the first are named and all are counted.
    """
    trained = {identity_order(item.identity) for item in train}
    for name, items in others.items():
        there = {identity_order(item.identity): item.identity for item in items}
        wrong = [there[key] for key in sorted(there) if key in trained]
        if wrong:
            raise UserError(f"in train and in {name} too: {some(wrong, 'identity')}", hint)


def natural(text: str) -> tuple[int, int, str]:
    """Sort numbers by value and before other texts."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _outfit(item: Item, identity_order: Order, outfit_order: Order) -> tuple[Any, Any]:
    # The identity comes second: the original sorts by the outfit's text, which defines its labels.
    return outfit_order(item.outfit), identity_order(item.identity)
