"""Datasets of torch's DataLoader for training and evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from PIL import Image

from ffreid.engine.cache import Cache
from ffreid.errors import UserError
from ffreid.reid.data.batch import EvalSample, Sample, UnreadableRecord
from ffreid.reid.data.pictures import Decoder, Picture, Pixels, read_picture
from ffreid.reid.data.records import Record
from ffreid.reid.data.sampler import IdentitySampler
from ffreid.reid.data.transforms import (
    ClipTraining,
    Evaluation,
    ImageTraining,
    SampleRandom,
    sample_random,
)

MAX_TRIES = 100
"""Records tried in place of an unreadable one."""


class UnreadableError(UserError):
    """The file `path` of a record cannot be read; other processes do not get `path`."""

    def __init__(self, message: str, hint: str, path: str = "") -> None:
        super().__init__(message, hint)
        self.path = path


@dataclass(frozen=True)
class Pictures:
    """The images below `folder` by their paths, decoded by `decode`, or resized in `cache`."""

    folder: Path
    decode: Decoder = "pil"
    cache: Cache | None = None

    def read(
        self, frames: Sequence[str], broken: Mapping[str, UnreadableError] | None = None
    ) -> list[Picture]:
        """Read a record's images, each file once; raise UnreadableError if one cannot be read."""
        images: dict[str, Picture] = {}
        for path in dict.fromkeys(frames):
            if broken and path in broken:
                raise broken[path]
            if self.cache and (cached := self.cache.get(path, (f"{self.folder}/{path}",))):
                pixels: Pixels = cached[0]
                images[path] = pixels if self.decode == "fast" else Image.fromarray(pixels)
                continue
            try:
                images[path] = read_picture(self.folder / path, self.decode)
            except UserError as error:
                hint = f"{error.hint}; or set DATA.SKIP_BROKEN True to skip the file"
                raise UnreadableError(error.message, hint, path) from error
        return [images[path] for path in frames]


class TrainSet(torch.utils.data.Dataset[Sample]):
    """Training images or clips in the sampler's order.

    Keys are (epoch, position); a sample depends on (seed, epoch, position) only, in any process.
    With `skip_broken` an unreadable record is replaced by another of the same identity, or by
    another clip.
    """

    def __init__(
        self,
        records: Sequence[Record],
        images: Path | Pictures,
        sampler: IdentitySampler,
        *,
        prepare: ImageTraining | ClipTraining,
        seed: int,
        skip_broken: bool,
    ) -> None:
        self.records, self.sampler = tuple(records), sampler
        self.pictures = images if isinstance(images, Pictures) else Pictures(images)
        self.prepare, self.seed, self.skip_broken = prepare, seed, skip_broken

    def __len__(self) -> int:
        return self.sampler.steps_per_epoch * self.sampler.batch * self.sampler.groups

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, position = key
        sample = sample_random(self.seed, epoch, position)
        first = self.sampler.index(epoch, position)
        broken: dict[str, UnreadableError] = {}
        for record in self._candidates(first, sample):
            chosen = self.prepare.frames(len(record.frames), sample)
            try:
                pictures = self.pictures.read([record.frames[i] for i in chosen], broken)
            except UnreadableError as error:
                if not self.skip_broken:
                    raise
                broken[error.path] = error
                continue
            pixels, box = self.prepare.pixels(pictures, sample)
            labels = record.identity, record.clothes
            return Sample(pixels, *labels, tuple(broken), record.frames[chosen[0]], box)
        raise UserError(
            f"cannot read any of {len(broken)} images of training identity "
            f"{self.records[first].identity}: {next(iter(broken.values())).message}",
            "copy or unpack the dataset again",
        )

    def _candidates(self, first: int, sample: SampleRandom) -> Iterator[Record]:
        """Yield a record, then those of its identity in random order."""
        yield self.records[first]
        members = list(self.sampler.members[self.records[first].identity])
        sample.rng.shuffle(members)
        # A tracklet with a broken frame has other clips.
        has_clips = len(self.records[first].frames) > 1
        for index in islice(cycle(members) if has_clips else members, MAX_TRIES):
            yield self.records[index]


class EvalSet(torch.utils.data.Dataset[EvalSample | UnreadableRecord]):
    """Images, or clips of equal length, to evaluate; `skip_broken` returns `UnreadableRecord`."""

    def __init__(
        self,
        records: Sequence[Record],
        images: Path | Pictures,
        *,
        prepare: Evaluation,
        skip_broken: bool,
    ) -> None:
        self.records = tuple(records)
        self.pictures = images if isinstance(images, Pictures) else Pictures(images)
        self.prepare, self.skip_broken = prepare, skip_broken

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> EvalSample | UnreadableRecord:
        try:
            pictures = self.pictures.read(self.records[index].frames)
        except UnreadableError as error:
            if not self.skip_broken:
                raise
            return UnreadableRecord(index, error.path, error.message)
        return EvalSample(index, self.prepare.pixels(pictures))
