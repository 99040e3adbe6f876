"""What autocast computes in, what never computes in half precision, and torch's switches."""

import os

import pytest
import torch
from torch import Tensor
from yacs.config import CfgNode

from ffreid.engine import defaults
from ffreid.engine.precision import autocast_dtype, dtype, flags, in_float32, upcast_half
from ffreid.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
BFLOAT16 = [(True, torch.bfloat16), (False, torch.float16)]


def configuration(**values: object) -> CfgNode:
    cfg = CfgNode({"TRAIN": CfgNode()})
    defaults.add(cfg.TRAIN)
    for key, value in values.items():
        cfg.TRAIN[key] = value
    return cfg


def claim(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> list[bool]:
    """Let torch say what its GPU has; the list fills with whether emulation counts."""
    asked: list[bool] = []

    def tell(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return bfloat16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", tell)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card of 2016")
    return asked


def test_half_precision_is_off_unless_asked_for() -> None:
    assert autocast_dtype(configuration(), CPU) is None
    assert autocast_dtype(configuration(PRECISION="fp64"), CPU) is None


@pytest.mark.parametrize("bfloat16", [True, False])
def test_the_cpu_computes_in_bfloat16(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, bfloat16=bfloat16)
    assert autocast_dtype(configuration(PRECISION="amp"), CPU) == torch.bfloat16


@pytest.mark.parametrize(("bfloat16", "found"), BFLOAT16)
def test_a_gpu_without_bfloat16_of_its_own_computes_in_float16(
    bfloat16: bool, found: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = claim(monkeypatch, bfloat16=bfloat16)
    assert autocast_dtype(configuration(PRECISION="amp"), GPU) == found
    assert asked == [False]


@pytest.mark.parametrize(("name", "found"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_named_half_precision_is_that_one(
    name: str, found: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(monkeypatch, bfloat16=True)
    for device in (CPU, GPU):
        assert autocast_dtype(configuration(PRECISION=name), device) == found


def test_bfloat16_that_a_gpu_has_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, bfloat16=False)
    with pytest.raises(UserError, match="bf16, which a card of 2016 does not support") as caught:
        autocast_dtype(configuration(PRECISION="bf16"), GPU)
    assert "fp16" in caught.value.hint


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "fp64"])
def test_parameters_are_single_or_double_never_half(name: str) -> None:
    expected = torch.float64 if name == "fp64" else torch.float32
    assert dtype(configuration(PRECISION=name)) == expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_only_half_precision_is_widened(kind: torch.dtype) -> None:
    expected = torch.float64 if kind == torch.float64 else torch.float32
    assert upcast_half(torch.ones(2, dtype=kind)).dtype == expected


@in_float32
def product(left: Tensor, right: Tensor, *, factor: float = 1.0) -> Tensor:
    return factor * (left @ right)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_no_autocast_reaches_into_a_wide_function(kind: torch.dtype) -> None:
    left, right = torch.full((2, 2), 300.0), torch.full((2, 2), 301.0)
    with torch.autocast("cpu", kind):
        found = product(left, right=right.to(kind), factor=0.5)
        assert (left @ right).dtype == kind
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, 300.0 * right.to(kind).float())


def test_a_wide_function_keeps_double_precision() -> None:
    ones = torch.ones(2, 2, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(ones, ones).dtype == torch.float64


def switches() -> tuple[bool, ...]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled()
    return cuda.allow_tf32, cudnn.allow_tf32, deterministic, cudnn.benchmark


@pytest.fixture
def _benchmarking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv(WORKSPACE, raising=False)


@pytest.mark.usefixtures("_benchmarking")
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_switches_are_as_asked_inside_and_as_before_outside(
    rounded: bool, deterministic: bool
) -> None:
    before = switches()
    cfg = configuration(TF32=rounded, DETERMINISTIC=deterministic)
    with pytest.raises(KeyError), flags(cfg):
        assert switches() == (rounded, rounded, deterministic, not deterministic)
        assert (WORKSPACE in os.environ) == deterministic
        raise KeyError
    assert switches() == before
    assert WORKSPACE not in os.environ


def test_a_workspace_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with flags(configuration(DETERMINISTIC=True)):
        assert os.environ[WORKSPACE] == ":16:8"
    assert os.environ[WORKSPACE] == ":16:8"


def test_an_operation_without_deterministic_form_is_named() -> None:
    with (
        pytest.raises(UserError, match="put_ has no deterministic implementation") as caught,
        flags(configuration(DETERMINISTIC=True)),
    ):
        values = torch.zeros(3)
        values.put_(torch.tensor([0, 1]), torch.ones(2), accumulate=False)
    assert "--deterministic" in caught.value.hint


@pytest.mark.parametrize("deterministic", [False, True])
def test_other_errors_pass(deterministic: bool) -> None:
    cfg = configuration(DETERMINISTIC=deterministic)
    with pytest.raises(RuntimeError, match="size"), flags(cfg):
        torch.ones(2) @ torch.ones(3)
