"""Specs of tensors: how they read, and which inputs are refused."""

from typing import Any

import pytest
import torch

from ffreid.engine.specs import Symbol, TensorSpec, checked_inputs
from ffreid.errors import UserError

CPU = torch.device("cpu")
SYMBOLS = {"B": Symbol(meaning="samples"), "H": Symbol(meaning="rows", least=8, multiple_of=4)}
IMAGE = TensorSpec(
    name="image",
    shape=("B", "H"),
    dtype=torch.float32,
    unit="m",
    meaning="depth",
    symbols=SYMBOLS,
)
INDEX = TensorSpec(
    name="index",
    shape=("B", "H // 4", 1),
    dtype=torch.int64,
    unit="index",
    meaning="pixels",
    range=(0, "B * H"),
    symbols=SYMBOLS,
)
SPECS = (IMAGE, INDEX)


def inputs() -> dict[str, Any]:
    return {"image": torch.zeros(2, 8), "index": torch.zeros(2, 2, 1, dtype=torch.int64)}


def test_a_spec_reads_as_a_line() -> None:
    assert str(INDEX) == "index (B, H // 4, 1) int64 [index]: pixels"
    assert str(SYMBOLS["H"]) == "rows"


@pytest.mark.parametrize("names", [(), ("index",), ("image", "index")])
def test_tensors_come_as_a_mapping_or_by_name(names: tuple[str, ...]) -> None:
    mapping = inputs()
    keywords = {name: mapping.pop(name) for name in names}
    assert list(checked_inputs(SPECS, mapping or None, keywords, CPU)) == ["image", "index"]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"imge": torch.zeros(1)}, "unknown input of forward: imge"),
        ({"image": [[1.0]]}, "image is a list, not a tensor"),
        ({"image": torch.zeros(2, 8).double()}, r"image has dtype torch\.float64"),
        ({"index": torch.zeros(2, 2, 1).int()}, r"index has dtype torch\.int32"),
        ({"image": torch.zeros(2, 8, device="meta")}, "image is on meta, the network on cpu"),
        ({"image": torch.zeros(16)}, r"image has shape \(16,\)"),
        ({"image": torch.zeros(2, 4)}, r"image: H \(rows\) is 4"),
        ({"image": torch.zeros(2, 10)}, r"image: H \(rows\) is 10"),
        ({"image": torch.zeros(0, 8)}, r"image: B \(samples\) is 0"),
        ({"image": torch.zeros(3, 8)}, r"index: B \(samples\) is 2, in other inputs 3"),
        ({"index": torch.zeros(2, 2, 2).long()}, r"index has shape \(2, 2, 2\)"),
    ],
)
def test_wrong_inputs_are_refused_by_name(changed: dict[str, Any], error: str) -> None:
    with pytest.raises(UserError, match=error):
        checked_inputs(SPECS, inputs() | changed, {}, CPU)


def test_missing_tensors_and_those_without_a_name_are_refused() -> None:
    with pytest.raises(UserError, match="missing input of forward: index") as caught:
        checked_inputs(SPECS, {"image": torch.zeros(2, 8)}, {}, CPU)
    assert "image, index" in caught.value.hint
    unnamed: Any = torch.zeros(2, 8)
    with pytest.raises(UserError, match="forward received a Tensor") as caught:
        checked_inputs(SPECS, unnamed, {}, CPU)
    assert "image=" in caught.value.hint
