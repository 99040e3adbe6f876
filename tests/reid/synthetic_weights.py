"""Weights and inputs from names alone: the recipe behind the recorded network numbers."""

import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tests.golden import SPLIT


@lru_cache(maxsize=400)  # a network or so: most tests fill the same one
def det_array(key: str, shape: tuple[int, ...], split: str = SPLIT) -> npt.NDArray[Any]:
    """The weight of the original's state-dict entry `key`."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    normal = np.random.default_rng(zlib.crc32(f"{split}:{key}".encode())).standard_normal(shape)
    if key.endswith("running_var"):
        value = 1.0 + 0.25 * np.tanh(normal)
    elif key.endswith("running_mean"):
        value = 0.1 * normal
    elif key.endswith("globalpooling.p"):
        value = 3.0 + 0.25 * normal
    elif len(shape) >= 2:
        value = normal * np.sqrt(1.0 / np.prod(shape[1:]))
        if ".theta." in key or ".phi." in key:
            value = 0.25 * value
    elif key.endswith("bias"):
        value = 0.1 * normal
    else:
        value = 1.0 + 0.1 * normal
    return np.asarray(value, np.float32)


def det_input(name: str, shape: tuple[int, ...], split: str = SPLIT) -> npt.NDArray[Any]:
    """The input `name`."""
    generator = np.random.default_rng(zlib.crc32(f"{split}:input:{name}".encode()))
    return generator.standard_normal(shape).astype(np.float32)


def fill(net: nn.Module, prefix: str = "", split: str = SPLIT) -> None:
    """Load the recipe's weights into `net`, whose keys the original has behind `prefix`."""
    net.load_state_dict(
        {
            key: torch.tensor(det_array(prefix + key, tuple(value.shape), split))
            for key, value in net.state_dict().items()
        }
    )
