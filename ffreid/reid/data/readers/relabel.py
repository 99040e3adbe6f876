"""From what names say to numbered labels: the same numbers whatever the file system gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ffreid.errors import UserError
from ffreid.reid.data.readers.files import first_few
from ffreid.reid.data.records import EvalSplit, Record
from ffreid.reid.retrieval.protocols import Protocol

NO_CLOTHES = "no outfits: SC and CC are left out, and CAL is a normalised softmax over identities"

Order = Callable[[str], Any]
"""What identities or outfits are told apart and sorted by."""


@dataclass(frozen=True, slots=True)
class RawRecord:
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
    clothes: str


class Relabelled(NamedTuple):
    """Records with labels from 0, and what the labels stand for."""

    records: tuple[Record, ...]
    identities: tuple[str, ...]
    clothes: tuple[str, ...]


def relabel(
    items: Sequence[RawRecord], *, identity_order: Order = int, clothes_order: Order = str
) -> Relabelled:
    """Number identities and outfits from 0, each in sorted order."""
    identities = {identity_order(item.identity): item.identity for item in items}
    clothes = {_clothes_key(item, identity_order, clothes_order): item.clothes for item in items}
    identity_label = {key: label for label, key in enumerate(sorted(identities))}
    clothes_label = {key: label for label, key in enumerate(sorted(clothes))}
    records = tuple(
        Record(
            item.frames,
            identity_label[identity_order(item.identity)],
            item.camera,
            clothes_label[_clothes_key(item, identity_order, clothes_order)],
        )
        for item in items
    )
    return Relabelled(
        records,
        tuple(identities[key] for key in identity_label),
        tuple(clothes[key] for key in clothes_label),
    )


def eval_split(
    query: Sequence[RawRecord],
    gallery: Sequence[RawRecord],
    protocols: Sequence[Protocol],
    *,
    number: Callable[[str], int] = int,
    clothes_order: Order = str,
) -> EvalSplit:
    """Give identities by their own number, outfits numbered from 0 over query and gallery."""
    keys = sorted({_clothes_key(item, number, clothes_order) for item in (*query, *gallery)})
    clothes_label = {key: label for label, key in enumerate(keys)}

    def records(items: Sequence[RawRecord]) -> tuple[Record, ...]:
        return tuple(
            Record(
                item.frames,
                number(item.identity),
                item.camera,
                clothes_label[_clothes_key(item, number, clothes_order)],
            )
            for item in items
        )

    return EvalSplit(query=records(query), gallery=records(gallery), protocols=tuple(protocols))


def check_disjoint(
    train: Sequence[RawRecord],
    others: Mapping[str, Sequence[RawRecord]],
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
            raise UserError(f"in train and in {name} too: {first_few(wrong, 'identity')}", hint)


def natural_key(text: str) -> tuple[int, int, str]:
    """Sort numbers by value and before other texts."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _clothes_key(item: RawRecord, identity_order: Order, clothes_order: Order) -> tuple[Any, Any]:
    # The identity comes second: the original sorts by the outfit's text, which defines its labels.
    return clothes_order(item.clothes), identity_order(item.identity)
