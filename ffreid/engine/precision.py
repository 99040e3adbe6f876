"""Which half precision a device computes in."""

import torch


def half(device: torch.device) -> torch.dtype:
    """Give bfloat16, which needs no loss scaling, or float16 on GPUs that lack it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
