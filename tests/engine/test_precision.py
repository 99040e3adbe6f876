"""Half precision is bfloat16 wherever a device has it."""

import pytest
import torch

from ffreid.engine.precision import half


@pytest.mark.parametrize("supported", [True, False])
def test_the_cpu_computes_in_bfloat16(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert half(torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(("supported", "found"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_of_its_own_computes_in_float16(
    supported: bool, found: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def tell(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", tell)
    assert half(torch.device("cuda", 0)) == found
    assert asked == [False]
