"""From labels in names to numbers, which do not depend on the file system's order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ffreid.errors import UserError
from ffreid.reid.data.checks import untrainable, without_match
from ffreid.reid.data.readers.files import first_few
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.retrieval.protocols import UNKNOWN, Protocol

NOT_EVALUATED = "SC and CC are not evaluated"
CAL_WITHOUT_CLOTHES = "CAL is a normalised softmax over identities"
NO_CLOTHES = f"no clothes labels: {NOT_EVALUATED}; {CAL_WITHOUT_CLOTHES}"

JUNK = "-1"
"""The identity of images that count neither as right nor as wrong, as in Market-1501."""

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
    can_share: bool = False,
    identity_key: Key = int,
    train_order: Key = int,
    clothes_key: Key = str,
    **options: Any,
) -> Source:
    """Create a dataset; `evaluated` splits share no identities with `train`, or `can_share` them.

    `identity_key` distinguishes identities in all splits; `train_order` and `clothes_key` sort
    those of training, see `relabel`. `options` are further attributes of `Source`, whose notes
    also tell what cannot be trained or evaluated.
    """
    trained = {identity_key(record.identity) for record in train}
    shared: dict[Any, str] = {}
    for split, records in evaluated.items():
        names = {identity_key(record.identity): record.identity for record in records}
        found = {key: names[key] for key in sorted(names) if key in trained}
        if found and not can_share:
            raise UserError(
                f"in train and in {split}: {first_few(list(found.values()), 'identity')}",
                hint or f"unpack {folder} again: its splits share no identities",
            )
        shared |= found
    labelled, identities, clothes = relabel(
        train, identity_key=train_order, clothes_key=clothes_key
    )
    source = Source(
        name=name,
        folder=folder,
        train=labelled,
        identities=identities,
        clothes=clothes,
        test=test,
        shared=tuple(shared.values()),
        **{"video": False} | options,
    )
    problems = filter(None, (untrainable(source), without_match(test, source.columns)))
    notes = [*source.notes, *map("; ".join, problems)]
    if shared:
        persons = first_few(source.shared, "identity")
        notes.append(f"the scores are of persons seen in training: {persons}")
    return replace(source, notes=tuple(notes))


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
    camera_name: Callable[[int], str] = str,
) -> EvalSplit:
    """Keep the identities' own numbers; number clothes from 0 over query and gallery."""
    keys = [(clothes_key(r.clothes), number(r.identity)) for r in (*query, *gallery)]
    label = {key: index for index, key in enumerate(sorted(set(keys)))}
    label |= {key: UNKNOWN for key in keys if key[0] == clothes_key("")}
    records = tuple(
        Record(r.frames, number(r.identity), r.camera, label[key])
        for r, key in zip((*query, *gallery), keys, strict=True)
    )
    return EvalSplit(
        query=records[: len(query)],
        gallery=records[len(query) :],
        protocols=tuple(protocols),
        names=label_names((*query, *gallery), records, camera_name),
    )


def label_names(
    raw: Sequence[RawRecord], records: Sequence[Record], camera_name: Callable[[int], str]
) -> dict[str, dict[int, str]]:
    """The labels of the records as text, see `EvalSplit`."""
    return {
        "identity": {r.identity: text.identity for r, text in zip(records, raw, strict=True)},
        "camera": {r.camera: camera_name(r.camera) for r in records},
        "clothes": {r.clothes: text.clothes for r, text in zip(records, raw, strict=True)},
    }


def number_from_1(camera: int) -> str:
    """The name of a camera whose label is one less than in the file names."""
    return str(camera + 1)


def natural_key(text: str) -> tuple[int, int, str, str]:
    """Sort numbers by value and before other text."""
    if text.isascii() and text.isdecimal():
        return 0, len(digits := text.lstrip("0")), digits, text
    return 1, 0, "", text
