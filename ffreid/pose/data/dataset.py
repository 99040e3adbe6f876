"""Samples for training and evaluation, as torch's DataLoader asks for them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from ffreid.errors import UserError
from ffreid.pose.data.augment import Policy, add_noise, augment_synthetic, colour_jitter
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.depth import downscale_frame
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.sample import make_sample
from ffreid.pose.objects import ObjectModels

# Draws in a row that may lack depth before the data set itself is taken to be at fault.
TRIES = 100


class Reader(Protocol):
    """Reads one data set's frames and knows which of them train and how often each kind does."""

    @property
    def policy(self) -> Policy:
        """Whose augmentation applies."""

    @property
    def fill_holes(self) -> bool:
        """Whether missing depth is filled."""

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
        """Say in a line which frames there are and whose lists they follow."""

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a training frame."""

    def draw_real(self, rng: np.random.RandomState) -> str:
        """Draw a photographed training frame."""

    def read(self, name: str) -> Frame:
        """Read a frame."""


def seeded_rng(*numbers: int) -> np.random.RandomState:
    """Give a generator that depends on `numbers` only, all of them not negative."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(numbers)))


class TrainSet(torch.utils.data.Dataset[Sample]):
    """Training samples, drawn anew at every position of every epoch.

    Keys are (epoch, position); a sample follows from (seed, epoch, position) alone, whatever
    process makes it. As in the original a position stands for no frame of its own.

    Args:
        reader: the data set.
        objects: what its class ids mean.
        points: points a sample.
        length: samples an epoch.
        seed: of all draws.
        shrink: make pictures this many times smaller.
        augment: change colours, and put real backgrounds behind rendered objects.
        fixed: train on these very frames, unchanged, instead: position p is frame p modulo their
            number with the same points every time.
    """

    def __init__(
        self,
        reader: Reader,
        objects: ObjectModels,
        *,
        points: int,
        length: int,
        seed: int,
        downscale: int = 1,
        augment: bool = True,
        fixed: Sequence[str] = (),
    ) -> None:
        if not reader.train_names:
            raise UserError("the data set has no training frames", "check its lists and folders")
        self.reader = reader
        self.objects = objects
        self.points = points
        self.length = length
        self.seed = seed
        self.downscale = downscale
        self.augment = augment
        self.fixed = tuple(fixed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, position = key
        if self.fixed:
            return self._fixed_sample(position % len(self.fixed))
        rng = seeded_rng(self.seed, epoch, position)
        reason = ""
        for _ in range(TRIES):
            frame = self._read(self.reader.draw(rng))
            if self.augment:
                frame = self._augmented(frame, rng)
            sample = self._sample(frame, rng, position)
            if isinstance(sample, Sample):
                return sample
            reason = f"{frame.name}: {sample.reason}"
        raise UserError(
            f"{TRIES} training frames in a row cannot be used; the last, {reason}",
            "check the depth pictures, or set DATA.SHRINK lower",
        )

    def _fixed_sample(self, number: int) -> Sample:
        frame = self._read(self.fixed[number])
        sample = self._sample(frame, seeded_rng(self.seed, number), number)
        if isinstance(sample, SkippedFrame):
            raise UserError(f"frame {frame.name}: {sample.reason}", "choose other frames")
        return sample

    def _augmented(self, frame: Frame, rng: np.random.RandomState) -> Frame:
        if self.reader.policy == "ycb" or not frame.synthetic:
            frame = replace(frame, rgb=colour_jitter(frame.rgb, rng))
        if not frame.synthetic:
            return frame
        if not self.reader.real_train_names:
            return replace(frame, rgb=add_noise(frame.rgb, rng, policy=self.reader.policy))
        return augment_synthetic(frame, self._draw_real, rng, policy=self.reader.policy)

    def _draw_real(self, rng: np.random.RandomState) -> Frame:
        return self._read(self.reader.draw_real(rng))

    def _read(self, name: str) -> Frame:
        return downscale_frame(self.reader.read(name), self.downscale)

    def _sample(
        self, frame: Frame, rng: np.random.RandomState, index: int
    ) -> Sample | SkippedFrame:
        return make_sample(
            frame,
            self.objects,
            points=self.points,
            rng=rng,
            index=index,
            fill_holes=self.reader.fill_holes,
        )


class EvalSet(torch.utils.data.Dataset[Sample | SkippedFrame]):
    """Evaluation samples: frame i of `names`, its points drawn from (seed, i).

    Args:
        reader: the data set.
        objects: what its class ids mean.
        names: frames to evaluate.
        points: points a sample.
        seed: of the draws.
        shrink: make pictures this many times smaller.
    """

    def __init__(
        self,
        reader: Reader,
        objects: ObjectModels,
        *,
        names: Sequence[str],
        points: int,
        seed: int,
        downscale: int = 1,
    ) -> None:
        self.reader = reader
        self.objects = objects
        self.names = tuple(names)
        self.points = points
        self.seed = seed
        self.downscale = downscale

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample | SkippedFrame:
        frame = downscale_frame(self.reader.read(self.names[index]), self.downscale)
        return make_sample(
            frame,
            self.objects,
            points=self.points,
            rng=seeded_rng(self.seed, index),
            index=index,
            fill_holes=self.reader.fill_holes,
        )
