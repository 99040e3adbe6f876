"""What the stages share: the machine, seeds, counts of operations and alternating times."""

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ffreid.engine import timing

SEED = 0


def machine(device: torch.device) -> dict[str, str]:
    """Processor, the instructions that figures depend on, threads, GPU and torch's version."""
    facts = {"processor": platform.processor() or platform.machine()}
    if hasattr(torch.cpu, "get_capabilities"):  # since torch 2.10
        found = torch.cpu.get_capabilities()
        facts["processor"] = str(found.get("cpu_name", facts["processor"]))
        for name in ("avx512_bf16", "amx_bf16", "amx_int8"):
            facts[name] = "yes" if found.get(name) else "no"
    facts["instructions used by torch"] = torch.backends.cpu.get_cpu_capability()
    facts["threads"] = str(torch.get_num_threads())
    if device.type == "cuda":
        facts["GPU"] = torch.cuda.get_device_name(device)
    return facts | {"torch": torch.__version__}


def compare(
    stage: str,
    now: Callable[[], object],
    plain: Callable[[], object],
    repeats: int,
    *,
    part: bool = False,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """A row of `now` and `plain`, timed in turn; on a GPU also the peak memory of `now`."""
    times = timing.in_turn({"now": now, "plain": plain}, repeats)
    megabytes = None
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        now()
        megabytes = torch.cuda.max_memory_allocated(device) / 2**20
    return timing.row(stage, times["now"], times["plain"], part=part, megabytes=megabytes)


def operations(call: Callable[[], object]) -> int:
    """Additions and multiplications of the call's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def convolution_rate(dtype: torch.dtype, quick: bool, device: torch.device) -> float:
    """Operations a millisecond of a 3 x 3 convolution of 512 channels."""
    height, width = (12, 16) if quick else (60, 80)
    image = torch.ones(1, 512, height, width, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    weight = torch.ones(512, 512, 3, 3, dtype=dtype, device=device).to(
        memory_format=torch.channels_last
    )
    call = partial(torch.nn.functional.conv2d, image, weight, padding=1)
    return operations(call) / timing.milliseconds(call, 3)
