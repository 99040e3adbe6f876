"""Datasets of re-identification: images or tracklets with their labels, in splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffreid.engine.cache import Cache
from ffreid.reid.retrieval.protocols import Protocol, label_columns

Names = Mapping[str, Mapping[int, str]]
"""Names of labels, by column and number."""


@dataclass(frozen=True, slots=True)
class Record:
    """An image, or a tracklet of several.

    Attributes:
        frames: paths relative to the dataset's folder, with ``/``; an image has one.
        identity: in training a label from 0, in evaluation the dataset's own number.
        camera: the dataset's number (LaST: one per image; DeepChange: the tracklet).
        clothes: in training a label from 0.
    """

    frames: tuple[str, ...]
    identity: int
    camera: int
    clothes: int


@dataclass(frozen=True, kw_only=True)
class EvalSplit:
    """Queries, their gallery, and the protocols of the evaluation.

    `names` are the dataset's own names of labels, by column (``identity``, ``camera``,
    ``clothes``) and number; an empty name is not shown.
    """

    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    protocols: tuple[Protocol, ...]
    names: Names = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset on disk.

    Attributes:
        video: whether the records are tracklets.
        train: labelled from 0.
        identities, clothes: names of those of training, by label.
        val: for model selection, if the dataset has one.
        columns: known labels of the test records besides the identity.
        single_shot: galleries of one image per identity, as indices into the test gallery (PRCC).
        shared: names of training identities that are also in query or gallery.
        notes: lines for the user, e.g. on missing labels.
        opened: the cache of its pictures, once it is looked for, see `ffreid.reid.cache`.
    """

    name: str
    folder: Path
    video: bool
    train: tuple[Record, ...]
    identities: tuple[str, ...]
    clothes: tuple[str, ...]
    test: EvalSplit
    val: EvalSplit | None = None
    columns: tuple[str, ...] = ("camera", "clothes")
    single_shot: tuple[tuple[int, ...], ...] = ()
    shared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    opened: dict[str, Cache | None] = field(default_factory=dict, compare=False, repr=False)

    def split(self, name: str) -> EvalSplit:
        """The split ``test`` or ``val``."""
        split = self.val if name == "val" else self.test
        assert split is not None, "TEST.SELECT_ON was checked"
        return split

    def protocol_names(self, split: str) -> list[str]:
        """Names of the protocols of a split whose labels are known."""
        known = {"identity", *self.columns}
        return [p.name for p in self.split(split).protocols if p.columns <= known]

    def clothes_of_identity(self) -> npt.NDArray[np.bool_]:
        """(identities, clothes) booleans: the clothes labels of each training identity."""
        mask = np.zeros((len(self.identities), len(self.clothes)), bool)
        for record in self.train:
            mask[record.identity, record.clothes] = True
        return mask

    def summary(self) -> str:
        """The dataset's size in a line."""
        kind = "tracklets" if self.video else "images"
        return (
            f"{len(self.train)} training {kind} of {len(self.identities)} identities with "
            f"{len(self.clothes)} clothes labels, {len(self.test.query)} query and "
            f"{len(self.test.gallery)} gallery {kind}, in {self.folder}"
        )


def own_names(names: Names, numbers: Mapping[str, int]) -> dict[str, str]:
    """Names of a record's labels, given by column; the numbers of those without a name."""
    found = {name: names.get(name, {}).get(number, str(number)) for name, number in numbers.items()}
    return {column: name for column, name in found.items() if name}


def record_path(record: Record) -> str:
    """An image's file or a tracklet's folder."""
    first = record.frames[0]
    return first if len(record.frames) == 1 else str(PurePosixPath(first).parent)


def labels(records: Sequence[Record], columns: Sequence[str]) -> dict[str, Tensor]:
    """The records' identities and the named columns, each (N,) int64."""
    names = ("identity", *columns)
    return label_columns(**{name: [getattr(r, name) for r in records] for name in names})
