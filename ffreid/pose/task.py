"""The pose task: FFB6D and the losses that train it."""

from collections.abc import Iterator

from torch import nn

from ffreid.engine import batchnorm
from ffreid.engine.task import Losses, Progress, Task, unwrap
from ffreid.pose.data.batch import PoseBatch
from ffreid.pose.losses import pose_losses, segmentation_accuracy
from ffreid.pose.schedules import halving_momentum


class PoseTask(Task):
    """FFB6D with its three losses.

    `offset_samples` is that of `pose_losses`; `frozen` keeps batch-norm statistics. The authors'
    schedule of batch-norm momentum counts `momentum_batch` samples a step (their 3 a process);
    None is off.
    """

    optimized = ("net",)

    def __init__(
        self, net: nn.Module, *, offset_samples: float, frozen: bool, momentum_batch: float | None
    ) -> None:
        super().__init__()
        self.net = net
        self.offset_samples, self.frozen = offset_samples, frozen
        self.momentum_batch = momentum_batch

    def adjust_modes(self) -> None:
        """Keep frozen statistics in evaluation mode."""
        if self.frozen:
            batchnorm.freeze(self.net)

    def before_step(self, at: Progress) -> None:
        """Set the batch-norm momentum where the schedule is on."""
        if self.momentum_batch is not None:
            momentum = halving_momentum(max(0, at.step - 1), batch=self.momentum_batch)
            batchnorm.set_momentum(self.net, momentum)

    def losses(self, batch: PoseBatch, at: Progress) -> Iterator[tuple[str, Losses]]:
        """Yield the network's three terms once."""
        outputs = (self.net if self.training else unwrap(self.net))(batch.inputs)
        losses = pose_losses(outputs, batch.targets, self.offset_samples)
        accuracy = segmentation_accuracy(outputs, batch.targets)
        yield "net", Losses(train=losses, log={"accuracy": accuracy})
