"""Activation checkpointing, memory format and modes of modules."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels last, by the dimensions of a convolution's weight."""


class Recomputed(nn.Sequential):
    """A sequence with activation checkpointing of each block (Chen et al., 2016).

    Gradients, running statistics, dropout and keys of the state dict are those of nn.Sequential.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks in order."""
        for block in self:
            x = _recomputed(block, x) if self.training and torch.is_grad_enabled() else block(x)
        return x


def _recomputed(block: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # Compiled code repeats no change of a buffer, and cannot enter our context.
        output: Tensor = checkpoint(block, x, use_reentrant=False)
    else:
        output = checkpoint(
            block,
            x,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _copied_statistics(block)),
        )
    return output


@contextmanager
def _copied_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their running statistics, updated by the first run.

    Switching the update off would change what autograd saves, which must be the same both times.
    """
    norms = [child for child in block.modules() if isinstance(child, _BatchNorm)]
    saved = [{name: getattr(norm, name) for name in STATISTICS} for norm in norms]
    try:
        for norm, values in zip(norms, saved, strict=True):
            for name, value in values.items():
                setattr(norm, name, None if value is None else value.clone())
        yield
    finally:
        for norm, values in zip(norms, saved, strict=True):
            for name, value in values.items():
                setattr(norm, name, value)


def channels_last(module: nn.Module) -> None:
    """Store the weights of 2d and 3d convolutions with channels last, in place.

    Tensor cores prefer it, above all in half precision. Values, shapes and keys stay.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Conv3d):
            weight = child.weight
            weight.data = weight.data.contiguous(memory_format=MEMORY_FORMATS[weight.dim()])


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put `net` in evaluation mode for the block, then each module back into its own mode."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
