"""Half, single and double precision, and torch's switches for them."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.errors import UserError

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Dtypes of autocast by the values of TRAIN.PRECISION."""
NOT_DETERMINISTIC = "does not have a deterministic implementation"
"""torch's message after the operation's name."""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Read by cuBLAS when CUDA starts."""

Arguments = ParamSpec("Arguments")


def dtype(cfg: CfgNode) -> torch.dtype:
    """Dtype of parameters and batches, which autocast does not change."""
    return torch.float64 if cfg.TRAIN.PRECISION == "fp64" else torch.float32


def autocast_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """Dtype of autocast; None is off.

    TRAIN.PRECISION amp is bfloat16, which needs no loss scaling, or float16 on GPUs without it, and
    off on processors without it.
    """
    choice = cfg.TRAIN.PRECISION
    if choice == "amp" and device.type == "cpu":
        return torch.bfloat16 if has_bfloat16() else None
    supported = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if choice == "amp":
        return torch.bfloat16 if supported else torch.float16
    if choice == "bf16" and not supported:
        raise UserError(
            f"TRAIN.PRECISION is bf16, which {torch.cuda.get_device_name(device)} does not support",
            "use --precision fp16, or --amp to choose automatically",
        )
    return HALVES.get(choice)


def is_bf16_on_cpu(cfg: CfgNode, device: torch.device) -> bool:
    """Whether training is in bfloat16 on a CPU: channels last and fused optimisers then pay."""
    return device.type == "cpu" and autocast_dtype(cfg, device) == torch.bfloat16


def slow_bf16(half: torch.dtype, device: torch.device) -> list[str]:
    """A note if `half` is bfloat16, and this processor computes in float32 and rounds."""
    if half != torch.bfloat16 or device.type != "cpu" or has_bfloat16():
        return []
    return ["this processor has no bfloat16 instructions: fp32 is faster, and exact"]


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX512-BF16, AMX, or ARM's BF16)."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def upcast_half(value: Any) -> Any:
    """Half-precision tensors as float32, anything else unchanged."""
    is_half = isinstance(value, Tensor) and value.dtype in HALVES.values()
    return value.float() if is_half else value


def in_float32(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Decorate a function of tensors to never compute in half precision."""

    @wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide = {name: upcast_half(value) for name, value in kwargs.items()}
            return function(*map(upcast_half, args), **wide)

    return wrapper


def check_compiler(backend: str) -> None:
    """Refuse an unknown backend of torch.compile; "" is none."""
    if backend and backend not in torch.compiler.list_backends(exclude_tags=()):
        raise UserError(
            f"TRAIN.COMPILE is {backend!r}, which is not a backend of torch.compile",
            f"choose one of: {', '.join(torch.compiler.list_backends())}; or remove it",
        )


@contextmanager
def flags(cfg: CfgNode) -> Iterator[None]:
    """Set TF32 and determinism for the block; enter it before the first operation on a GPU.

    Raises:
        UserError: with TRAIN.DETERMINISTIC, an operation has no deterministic implementation.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    mode, sets_workspace = torch.get_deterministic_debug_mode(), False
    matmul.allow_tf32 = cudnn.allow_tf32 = bool(cfg.TRAIN.TF32)
    if cfg.TRAIN.DETERMINISTIC:
        sets_workspace = WORKSPACE not in os.environ
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)
        cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        operation, matched, _ = str(error).partition(NOT_DETERMINISTIC)
        if not matched:
            raise
        raise UserError(
            f"{operation.strip()} has no deterministic implementation on this device",
            "remove --deterministic (TRAIN.DETERMINISTIC)",
        ) from error
    finally:
        torch.set_deterministic_debug_mode(mode)
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = switches
        if sets_workspace:
            os.environ.pop(WORKSPACE, None)
