"""Floating point types: by their names in the configuration, and a device's half precision."""

import torch

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}
"""What TRAIN.PRECISION may say."""


def half(device: torch.device) -> torch.dtype:
    """Give bfloat16, which needs no loss scaling, or float16 on GPUs that lack it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
