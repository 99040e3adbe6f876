"""Samples for training and evaluation, as torch's DataLoader indexes them."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ffreid.engine.cache import Cache
from ffreid.errors import UserError
from ffreid.pose.data.augment import Policy, add_noise, augment_synthetic, colour_jitter
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.frame import Frame, repeated_classes
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.data.sample import make_sample
from ffreid.pose.objects import ObjectModels

# After this many frames without depth in a row the dataset is considered broken.
MAX_TRIES = 100
SEVERAL = "it has several objects of a class, whose points would all be trained towards one"


class Reader(Protocol):
    """Reads the frames of one dataset; `fill_holes` is whether missing depth is filled."""

    folder: Path
    policy: Policy
    fill_holes: bool

    @property
    def train_names(self) -> list[str]:
        """All training frames."""

    @property
    def real_train_names(self) -> list[str]:
        """The photographed training frames."""

    @property
    def test_names(self) -> list[str]:
        """All test frames."""

    def summary(self) -> str:
        """One line on the frames and their lists."""

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame."""

    def draw_real(self, rng: np.random.RandomState) -> str:
        """Draw a photographed training frame."""

    def read(self, name: str) -> Frame:
        """Read a frame."""

    def files(self, name: str) -> list[Path]:
        """The files of a frame."""

    def read_meshes(self) -> Meshes:
        """Read the vertices of every object."""


def seeded_rng(*numbers: int) -> np.random.RandomState:
    """Random numbers that depend only on `numbers`, all of them non-negative."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(numbers)))


@dataclass(eq=False)
class _FrameSet:
    """Frames of a reader, their height and width divided by `downscale`, as network samples.

    `cache` holds the `surface` of some frames, by name.
    `on_device` is that of `make_sample`.
    """

    reader: Reader
    objects: ObjectModels
    _: KW_ONLY
    points: int
    seed: int
    downscale: int = 1
    cache: Cache | None = None
    on_device: bool = False

    def read(self, name: str) -> Frame:
        return downscale_frame(self.reader.read(name), self.downscale)

    def sample(
        self, frame: Frame, rng: np.random.RandomState, index: int, *, as_stored: bool = True
    ) -> Sample | SkippedFrame:
        known = None
        if self.cache is not None and as_stored:
            known = self.cache.get(frame.name, map(str, self.reader.files(frame.name)))
        return make_sample(
            frame,
            self.objects,
            points=self.points,
            rng=rng,
            index=index,
            fill_holes=self.reader.fill_holes,
            known=known,
            on_device=self.on_device,
        )


@dataclass(eq=False)
class TrainSet(_FrameSet, torch.utils.data.Dataset[Sample]):
    """Training samples, drawn afresh at every position of every epoch.

    Keys are (epoch, position); a sample depends on (seed, epoch, position) alone, in whatever
    process it is computed. As in the original a position is not tied to a frame.

    Attributes:
        length: samples per epoch.
        augment: change colours, and put real backgrounds behind rendered objects.
        fixed: train on these frames only, without augmentation: position p is frame p modulo
            their number, with the same points every time.
    """

    _: KW_ONLY
    length: int
    augment: bool = True
    fixed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.reader.train_names:
            raise UserError("the dataset has no training frames", "check its lists and folders")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, position = key
        if self.fixed:
            number = position % len(self.fixed)
            frame = self.read(self.fixed[number])
            if frame.instances is None and repeated_classes(frame.class_ids):
                raise UserError(f"frame {frame.name}: {SEVERAL}", "choose other frames")
            sample = self.sample(frame, seeded_rng(self.seed, number), number)
            if isinstance(sample, SkippedFrame):
                raise UserError(f"frame {frame.name}: {sample.reason}", "choose other frames")
            return sample
        rng = seeded_rng(self.seed, epoch, position)
        reason = ""
        for _ in range(MAX_TRIES):
            frame = self.read(self.reader.draw(rng))
            if frame.instances is None and repeated_classes(frame.class_ids):
                reason = f"{frame.name}: {SEVERAL}"
                continue
            stored = frame.depth
            if self.augment:
                frame = self.augmented(frame, rng)
            sample = self.sample(frame, rng, position, as_stored=frame.depth is stored)
            if isinstance(sample, Sample):
                return sample
            reason = f"{frame.name}: {sample.reason}"
        raise UserError(
            f"{MAX_TRIES} training frames in a row cannot be used; the last one, {reason}",
            "check these frames, or use others: DATA.TRAIN_LIST FILE",
        )

    def augmented(self, frame: Frame, rng: np.random.RandomState) -> Frame:
        """Change colours, and put a real background behind rendered objects."""
        policy = self.reader.policy
        if policy == "ycb" or not frame.synthetic:
            frame = replace(frame, rgb=colour_jitter(frame.rgb, rng))
        if not frame.synthetic:
            return frame
        if not self.reader.real_train_names:
            return replace(frame, rgb=add_noise(frame.rgb, rng, policy=policy))
        return augment_synthetic(
            frame, lambda rng: self.read(self.reader.draw_real(rng)), rng, policy=policy
        )


@dataclass(eq=False)
class EvalSet(_FrameSet, torch.utils.data.Dataset[Sample | SkippedFrame]):
    """Evaluation samples: frame i of `names`, its points drawn from (seed, i)."""

    _: KW_ONLY
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample | SkippedFrame:
        return self.sample(self.read(self.names[index]), seeded_rng(self.seed, index), index)
