"""Activation checkpointing: blocks keep their inputs alone and run once more in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Recomputed(nn.Sequential):
    """A sequence whose blocks are run once more in the backward pass, for less memory.

    Gradients, running statistics and dropout are those of a plain sequence, and so are the state
    dict's keys. Without gradient, and in evaluation mode, it is a plain sequence.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks in order."""
        for block in self:
            x = _recomputed(block, x) if self.training and torch.is_grad_enabled() else block(x)
        return x


def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
    found: Tensor
    if torch.compiler.is_compiling():
        # What is compiled repeats no change of a buffer, and could not enter our context.
        found = checkpoint(block, x, use_reentrant=False)
    else:
        found = checkpoint(
            block,
            x,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _spare_statistics(block)),
        )
    return found


@contextmanager
def _spare_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their running statistics, which the first run updated.

    Telling them to keep none would change what autograd saves, which must be the same both times.
    """
    norms = [child for child in block.modules() if isinstance(child, _BatchNorm)]
    kept = [{name: getattr(child, name) for name in STATISTICS} for child in norms]
    try:
        for child, own in zip(norms, kept, strict=True):
            for name, value in own.items():
                setattr(child, name, None if value is None else value.clone())
        yield
    finally:
        for child, own in zip(norms, kept, strict=True):
            for name, value in own.items():
                setattr(child, name, value)


LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels last, by the dimensions of a convolution's weight; others have one layout alone."""


def channels_last(module: nn.Module) -> None:
    """Lay the weights of plane and spatial convolutions out with channels last, in place.

    Tensor cores prefer it, above all in half precision; what a convolution gives then lies so
    too. Values, shapes and the state dict's keys stay, so checkpoints fit in both directions.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Conv3d):
            weight = child.weight
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[weight.dim()])


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put `net` in evaluation mode for the block, and each module back into its own."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
