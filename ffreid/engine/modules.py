"""Activation checkpointing, memory format and modes of modules."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ffreid.engine.batchnorm import norms_of

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
    options: dict[str, Any] = {}
    if not torch.compiler.is_compiling():  # compiled code repeats no change of a buffer
        options["context_fn"] = lambda: (nullcontext(), _copied_statistics(block))
    output: Tensor = checkpoint(block, x, use_reentrant=False, **options)
    return output


@contextmanager
def _copied_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their running statistics, updated by the first run.

    Switching the update off would change what autograd saves, which must be the same both times.
    """
    buffers = [(norm, *item) for norm in norms_of(block) for item in norm.named_buffers()]
    try:
        for norm, name, value in buffers:
            setattr(norm, name, value.clone())
        yield
    finally:
        for norm, name, value in buffers:
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


def has_hooks(net: nn.Module) -> bool:
    """Whether a layer's forward hooks would miss a network that is compiled."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def weights_key(net: nn.Module) -> tuple[object, ...]:
    """A key that is another one whenever what a compiled network depends on has changed."""
    first = next(net.parameters())
    state = [t.detach() for t in net.state_dict().values() if t.dtype == torch.float32]
    # Sums of bits modulo 2^32 alone would miss some products with powers of 2.
    sums = [(int(t.view(torch.int32).sum(dtype=torch.int32)), float(t.sum())) for t in state]
    return (str(first.device), first.dtype, has_hooks(net), *sums)
