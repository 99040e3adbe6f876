"""Dtypes of autocast and parameters, functions in float32, and torch's switches."""

import os

import pytest
import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.engine import defaults, precision
from ffreid.engine.precision import WORKSPACE, autocast_dtype, dtype, flags, in_float32
from ffreid.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def configuration(**values: object) -> CfgNode:
    cfg = CfgNode({"TRAIN": CfgNode()})
    defaults.add(cfg.TRAIN)
    cfg.TRAIN.update(values)
    return cfg


def fake_gpu(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    """A GPU that emulates bfloat16, or has it."""

    def is_supported(including_emulation: bool = True) -> bool:
        return bfloat16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card of 2016")


@pytest.mark.parametrize(
    ("precision", "device", "bfloat16", "expected"),
    [
        ("fp32", CPU, False, None),
        ("fp64", CPU, False, None),
        ("amp", CPU, True, torch.bfloat16),
        ("amp", CPU, False, None),
        ("amp", GPU, True, torch.bfloat16),
        ("amp", GPU, False, torch.float16),
        ("fp16", CPU, True, torch.float16),
        ("fp16", GPU, True, torch.float16),
        ("bf16", CPU, False, torch.bfloat16),
        ("bf16", GPU, True, torch.bfloat16),
    ],
)
def test_dtypes_of_autocast_and_parameters(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    device: torch.device,
    bfloat16: bool,
    expected: torch.dtype | None,
) -> None:
    fake_gpu(monkeypatch, bfloat16=bfloat16)
    monkeypatch.setattr("ffreid.engine.precision.has_bfloat16", lambda: bfloat16)
    cfg = configuration(PRECISION=precision)
    assert autocast_dtype(cfg, device) == expected
    assert dtype(cfg) == (torch.float64 if precision == "fp64" else torch.float32)


def test_bfloat16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch, bfloat16=False)
    with pytest.raises(UserError, match="bf16, which a card of 2016 does not support") as caught:
        autocast_dtype(configuration(PRECISION="bf16"), GPU)
    assert "fp16" in caught.value.hint


def test_processors_without_bfloat16_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(precision.has_bfloat16(), bool)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert "no bfloat16" in precision.slow_bf16(torch.bfloat16, CPU)[0]
    assert precision.slow_bf16(torch.float16, CPU) == precision.slow_bf16(torch.bfloat16, GPU) == []
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    assert precision.slow_bf16(torch.bfloat16, CPU) == []


@in_float32
def product(left: Tensor, right: Tensor, *, factor: float = 1.0) -> Tensor:
    return factor * (left @ right)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_autocast_is_off_in_functions_in_float32(kind: torch.dtype) -> None:
    left, right = torch.full((2, 2), 300.0), torch.full((2, 2), 301.0)
    with torch.autocast("cpu", kind):
        result = product(left, right=right.to(kind), factor=0.5)
        assert (left @ right).dtype == kind
        assert product(left.double(), right.double()).dtype == torch.float64
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, 300.0 * right.to(kind).float())


def switches() -> tuple[bool, ...]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled()
    return cuda.allow_tf32, cudnn.allow_tf32, deterministic, cudnn.benchmark


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_switches_are_set_for_the_block(
    monkeypatch: pytest.MonkeyPatch, tf32: bool, deterministic: bool, workspace: str | None
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv(WORKSPACE, raising=False)
    if workspace:
        monkeypatch.setenv(WORKSPACE, workspace)
    before = switches()
    with pytest.raises(KeyError), flags(configuration(TF32=tf32, DETERMINISTIC=deterministic)):
        assert switches() == (tf32, tf32, deterministic, not deterministic)
        assert os.environ.get(WORKSPACE) == (workspace or (":4096:8" if deterministic else None))
        raise KeyError
    assert switches() == before
    assert os.environ.get(WORKSPACE) == workspace


def test_an_operation_without_deterministic_implementation_is_an_error() -> None:
    with (
        pytest.raises(UserError, match="put_ has no deterministic implementation") as caught,
        flags(configuration(DETERMINISTIC=True)),
    ):
        torch.zeros(3).put_(torch.tensor([0, 1]), torch.ones(2), accumulate=False)
    assert "--deterministic" in caught.value.hint


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="size"), flags(configuration(DETERMINISTIC=True)):
        torch.ones(2) @ torch.ones(3)
