"""What is computed in half, single and double precision, and torch's switches for it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.errors import UserError

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""What autocast computes in, by the names of TRAIN.PRECISION that ask for it."""

NO_DETERMINISTIC_FORM = "does not have a deterministic implementation"
"""How torch says it, behind the operation's name."""

Arguments = ParamSpec("Arguments")


def dtype(cfg: CfgNode) -> torch.dtype:
    """Floating point type of parameters and batches: autocast halves neither."""
    return torch.float64 if cfg.TRAIN.PRECISION == "fp64" else torch.float32


def autocast_dtype(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None is off.

    TRAIN.PRECISION amp is bfloat16, which needs no loss scaling, or float16 on GPUs without it.

    Raises:
        UserError: TRAIN.PRECISION names bfloat16 and the GPU has none.
    """
    named = HALVES.get(cfg.TRAIN.PRECISION)
    if cfg.TRAIN.PRECISION == "amp":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float16
    if named == torch.bfloat16 and not _has_bfloat16(device):
        raise UserError(
            f"TRAIN.PRECISION is bf16, which {torch.cuda.get_device_name(device)} has not",
            "use --precision fp16, or --amp, which chooses",
        )
    return named


def _has_bfloat16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def widened(values: Tensor) -> Tensor:
    """Give half precision as float32, anything else as it is."""
    return values.float() if values.dtype in HALVES.values() else values


def in_float32(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Make a function of tensors never compute in half precision.

    Its half-precision arguments come widened, and no autocast region reaches into it.
    """

    @wraps(function)
    def outside(*given: Arguments.args, **named: Arguments.kwargs) -> Tensor:
        tensors = [value for value in (*given, *named.values()) if isinstance(value, Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            wider: Any = [_widened_if_tensor(value) for value in given]
            more: Any = {name: _widened_if_tensor(value) for name, value in named.items()}
            return function(*wider, **more)

    return outside


def _widened_if_tensor(value: object) -> object:
    return widened(value) if isinstance(value, Tensor) else value


def check_compiler(backend: str) -> None:
    """Refuse a backend that torch.compile does not know; "" is none.

    Raises:
        UserError: naming those that it knows.
    """
    known = torch.compiler.list_backends()
    if backend and backend not in torch.compiler.list_backends(exclude_tags=()):
        raise UserError(
            f"TRAIN.COMPILE is {backend!r}, which torch.compile does not know",
            f"choose one of: {', '.join(known)}; or leave it out",
        )


@contextmanager
def flags(cfg: CfgNode) -> Iterator[None]:
    """Set torch's switches as TRAIN.TF32 and TRAIN.DETERMINISTIC say; all is as before afterwards.

    Enter it before the first operation on a GPU.

    Raises:
        UserError: an operation inside has no deterministic form, and TRAIN.DETERMINISTIC asks
            for one.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = bool(cfg.TRAIN.TF32)
    try:
        with _deterministic() if cfg.TRAIN.DETERMINISTIC else nullcontext():
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def _deterministic() -> Iterator[None]:
    cudnn, workspace = torch.backends.cudnn, "CUBLAS_WORKSPACE_CONFIG"
    before = torch.get_deterministic_debug_mode(), cudnn.benchmark, os.environ.get(workspace)
    # What cuBLAS asks for; it reads it when CUDA starts.
    os.environ.setdefault(workspace, ":4096:8")
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        operation, said, _ = str(error).partition(NO_DETERMINISTIC_FORM)
        if not said:
            raise
        raise UserError(
            f"{operation.strip()} has no deterministic form on this device",
            "leave --deterministic (TRAIN.DETERMINISTIC) out",
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before[0])
        cudnn.benchmark = before[1]
        if before[2] is None:
            os.environ.pop(workspace, None)
