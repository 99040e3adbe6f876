"""From labels in names to numbers, which do not depend on the file system's order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffreid.errors import UserError
from ffreid.reid.data.readers.files import first_few
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.retrieval.protocols import Protocol

NO_CLOTHES = (
    "no clothes labels: SC and CC are not evaluated; CAL is a normalised softmax over identities"
)

Key = Callable[[str], Any]
"""By which names of identities or clothes are distinguished and sorted."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A `Record` with its labels as text; clothes of different identities always differ."""

    frames: tuple[str, ...]
    identity: str
    camera: int
    clothes: str


def make_source(
    name: str,
    folder: Path,
    train: Sequence[RawRecord],
    evaluated: Mapping[str, Sequence[RawRecord]],
    test: EvalSplit,
    *,
    hint: str = "",
    identity_key: Key = int,
    train_order: Key = int,
    clothes_key: Key = str,
    **options: Any,
) -> Source:
    """Create a dataset; `evaluated` splits must not share identities with `train`.

    `identity_key` distinguishes identities in all splits; `train_order` and `clothes_key` sort
    those of training, see `relabel`. `options` are further attributes of `Source`.
    """
    trained = {identity_key(record.identity) for record in train}
    for split, records in evaluated.items():
        names = {identity_key(record.identity): record.identity for record in records}
        shared = [names[key] for key in sorted(names) if key in trained]
        if shared:
            raise UserError(
                f"in train and in {split}: {first_few(shared, 'identity')}",
                hint or f"unpack {folder} again: its splits share no identities",
            )
    labelled, identities, clothes = relabel(
        train, identity_key=train_order, clothes_key=clothes_key
    )
    return Source(
        name=name,
        folder=folder,
        train=labelled,
        identities=identities,
        clothes=clothes,
        test=test,
        **{"video": False} | options,
    )


def relabel(
    records: Sequence[RawRecord], *, identity_key: Key = int, clothes_key: Key = str
) -> tuple[tuple[Record, ...], tuple[str, ...], tuple[str, ...]]:
    """Number identities and clothes from 0, each sorted; also return their names by label."""
    # By clothes first: Simple-CCReID sorts the text of the clothes.
    clothes_keys = [(clothes_key(r.clothes), identity_key(r.identity)) for r in records]
    identities = {identity_key(record.identity): record.identity for record in records}
    clothes = {key: r.clothes for key, r in zip(clothes_keys, records, strict=True)}
    identity_label = {key: label for label, key in enumerate(sorted(identities))}
    clothes_label = {key: label for label, key in enumerate(sorted(clothes))}
    labelled = tuple(
        Record(r.frames, identity_label[identity_key(r.identity)], r.camera, clothes_label[key])
        for key, r in zip(clothes_keys, records, strict=True)
    )
    return (
        labelled,
        tuple(identities[key] for key in identity_label),
        tuple(clothes[key] for key in clothes_label),
    )


def eval_split(
    query: Sequence[RawRecord],
    gallery: Sequence[RawRecord],
    protocols: Sequence[Protocol],
    *,
    number: Callable[[str], int] = int,
    clothes_key: Key = str,
) -> EvalSplit:
    """Keep the identities' own numbers; number clothes from 0 over query and gallery."""
    keys = [(clothes_key(r.clothes), number(r.identity)) for r in (*query, *gallery)]
    label = {key: index for index, key in enumerate(sorted(set(keys)))}
    records = tuple(
        Record(r.frames, number(r.identity), r.camera, label[key])
        for r, key in zip((*query, *gallery), keys, strict=True)
    )
    return EvalSplit(
        query=records[: len(query)], gallery=records[len(query) :], protocols=tuple(protocols)
    )


def natural_key(text: str) -> tuple[int, int, str]:
    """Sort numbers by value and before other text."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)
