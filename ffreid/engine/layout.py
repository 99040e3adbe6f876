"""How the weights of convolutions lie in memory."""

import torch
from torch import nn

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
