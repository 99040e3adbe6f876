"""What a re-identification data set is made of: pictures or tracklets with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffreid.reid.retrieval.protocols import Protocol, label_columns


@dataclass(frozen=True, slots=True)
class Record:
    """A picture, or a tracklet of several.

    Attributes:
        frames: paths below the data set's folder with ``/`` between; a picture has one.
        identity: in training a label from 0, in evaluation the data set's own number.
        camera: as the data set counts (LaST: one each picture; DeepChange: the tracklet).
        clothes: outfit; in training a label from 0.
    """

    frames: tuple[str, ...]
    identity: int
    camera: int
    clothes: int


@dataclass(frozen=True, kw_only=True)
class EvalSplit:
    """Queries, the gallery they search, and the protocols by which that is judged."""

    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    protocols: tuple[Protocol, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it lies on disk.

    Attributes:
        name: the data set's.
        folder: its own folder, which the records' paths start from.
        video: whether the records are tracklets.
        train: labelled from 0.
        identities: what the identity labels of training stand for, by label.
        outfits: what the clothes labels of training stand for, by label.
        test: the search that the published results are of.
        val: a search to select models on, where the data set has one.
        columns: which labels of the test records are known besides the identity.
        single_shot: galleries of one picture an identity, as indices into the test gallery (PRCC).
        notes: what people should know, e.g. which labels are missing; a line each.
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
    notes: tuple[str, ...] = ()

    def clothes_of_identity(self) -> npt.NDArray[np.bool_]:
        """Whose outfit is whose: (identities, outfits) booleans."""
        mask = np.zeros((len(self.identities), len(self.clothes)), bool)
        for record in self.train:
            mask[record.identity, record.clothes] = True
        return mask

    def summary(self) -> str:
        """Say in a line what there is."""
        kind = "tracklets" if self.video else "pictures"
        return (
            f"{len(self.train)} training {kind} of {len(self.identities)} identities in "
            f"{len(self.clothes)} outfits, {len(self.test.query)} queries, "
            f"{len(self.test.gallery)} in the gallery, at {self.folder}"
        )


def labels(records: Sequence[Record], columns: Sequence[str]) -> dict[str, Tensor]:
    """Give the records' identities and the named columns, each (N,) int64."""
    names = ("identity", *columns)
    return label_columns(**{name: [getattr(r, name) for r in records] for name in names})
