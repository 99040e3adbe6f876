"""Samples for training and evaluation, as torch's DataLoader asks for them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ffreid.engine.dataset_files import open_image
from ffreid.errors import UserError
from ffreid.reid.data.batch import EvalSample, Sample, UnreadableRecord
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import SampleRandom, sample_random

# Records of one identity that are tried before its pictures count as lost.
TRIES = 100


def read_frames(
    folder: Path, frames: Sequence[str], known: Mapping[str, UserError] | None = None
) -> list[Image.Image]:
    """Read a record's pictures, each file once however often it is named.

    Raises:
        UnreadableError: a file is missing or broken, or among those `known` to be.
    """
    pictures: dict[str, Image.Image] = {}
    for path in dict.fromkeys(frames):
        if known and path in known:
            raise UnreadableError(path, known[path])
        try:
            pictures[path] = open_image(folder / path)
        except UserError as error:
            raise UnreadableError(path, error) from error
    return [pictures[path] for path in frames]


class UnreadableError(Exception):
    """A file of a record that cannot be read.

    Args:
        path: below the data set's folder.
        error: what is wrong with it.
    """

    def __init__(self, path: str, error: UserError) -> None:
        super().__init__(path)
        self.path, self.error = path, error

    def advised(self) -> UserError:
        """Give the user's error, with the way to go on without the file."""
        return UserError(
            self.error.message,
            "copy or unpack the data set again, or set DATA.SKIP_BROKEN True to go on without",
        )


class Training(Protocol):
    """Chooses frames of a record and augments them."""

    def frames(self, count: int, sample: SampleRandom) -> list[int]:
        """Draw which of a record's `count` pictures are wanted."""

    def __call__(self, pictures: Sequence[Image.Image], sample: SampleRandom) -> Tensor:
        """Give what the network reads."""


class Evaluation(Protocol):
    """Makes all of a record's pictures ready."""

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Give what the network reads."""


class TrainSet(torch.utils.data.Dataset[Sample]):
    """Training pictures or clips in the sampler's order.

    Keys are (epoch, position); a sample follows from (seed, epoch, position) alone, whatever
    process makes it.

    Args:
        records: with labels from 0.
        folder: their paths start from.
        sampler: which record stands where.
        prepare: `ImageTraining` or `ClipTraining`.
        seed: of the augmentation.
        skip_broken: put another record of the same identity, or another clip, in the place of one
            that cannot be read (DATA.SKIP_BROKEN); an error else.
    """

    def __init__(
        self,
        records: Sequence[Record],
        folder: Path,
        sampler: IdentitySampler,
        *,
        prepare: Training,
        seed: int,
        skip_broken: bool,
    ) -> None:
        self.records = tuple(records)
        self.folder = folder
        self.sampler = sampler
        self.prepare = prepare
        self.seed = seed
        self.skip_broken = skip_broken

    def __len__(self) -> int:
        return self.sampler.steps_per_epoch * self.sampler.batch * self.sampler.groups

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, position = key
        sample = sample_random(self.seed, epoch, position)
        first = self.sampler.index(epoch, position)
        broken: dict[str, UserError] = {}
        for record in self._candidates(first, sample):
            chosen = self.prepare.frames(len(record.frames), sample)
            try:
                read = read_frames(self.folder, [record.frames[i] for i in chosen], broken)
            except UnreadableError as error:
                if not self.skip_broken:
                    raise error.advised() from error
                broken[error.path] = error.error
                continue
            images = self.prepare(read, sample)
            return Sample(
                images,
                record.identity,
                record.camera,
                record.clothes,
                tuple(broken),
                record.frames[chosen[0]],
            )
        raise UserError(
            f"none of the {len(broken)} pictures tried of training identity "
            f"{self.records[first].identity} can be read: {next(iter(broken.values())).message}",
            "copy or unpack the data set again",
        )

    def _candidates(self, first: int, sample: SampleRandom) -> Iterator[Record]:
        """Give a record, then its identity's in random order."""
        yield self.records[first]
        members = list(self.sampler.members[self.records[first].identity])
        sample.rng.shuffle(members)
        # A tracklet with a broken frame has other clips.
        again = len(self.records[first].frames) > 1
        for index in islice(cycle(members) if again else members, TRIES):
            yield self.records[index]


class EvalSet(torch.utils.data.Dataset[EvalSample | UnreadableRecord]):
    """Pictures or clips to evaluate, in the records' order.

    Args:
        records: pictures, or clips of equal length.
        folder: their paths start from.
        prepare: `ImageEvaluation` or `ClipEvaluation`.
        skip_broken: return `UnreadableRecord` instead of raising an error (DATA.SKIP_BROKEN).
    """

    def __init__(
        self,
        records: Sequence[Record],
        folder: Path,
        *,
        prepare: Evaluation,
        skip_broken: bool,
    ) -> None:
        self.records = tuple(records)
        self.folder = folder
        self.prepare = prepare
        self.skip_broken = skip_broken

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> EvalSample | UnreadableRecord:
        try:
            read = read_frames(self.folder, self.records[index].frames)
        except UnreadableError as error:
            if not self.skip_broken:
                raise error.advised() from error
            return UnreadableRecord(index, error.path, error.error.message)
        return EvalSample(index, self.prepare(read))
