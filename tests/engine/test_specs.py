"""Specs of tensors: how they read, and which inputs are refused."""

import pytest
import torch
from torch import Tensor

from ffreid.engine.specs import Symbol, TensorSpec, checked_inputs
from ffreid.errors import UserError

CPU = torch.device("cpu")
B, H = Symbol(meaning="samples"), Symbol(meaning="rows", least=8, multiple_of=4)
IMAGE = TensorSpec(
    name="image",
    shape=("B", "H"),
    dtype=torch.float32,
    unit="m",
    meaning="what is seen",
    symbols={"B": B, "H": H},
)
INDEX = TensorSpec(
    name="index",
    shape=("B", "H // 4", 1),
    dtype=torch.int64,
    unit="index",
    meaning="places",
    range=(0, "B * H"),
    symbols={"B": B, "H": H},
)
SPECS = (IMAGE, INDEX)


def given() -> dict[str, Tensor]:
    return {"image": torch.zeros(2, 8), "index": torch.zeros(2, 2, 1, dtype=torch.int64)}


def test_a_spec_reads_as_a_line() -> None:
    assert str(INDEX) == "index (B, H // 4, 1) int64 [index]: places"
    assert str(H) == "rows"


@pytest.mark.parametrize("named", [(), ("index",), ("image", "index")])
def test_tensors_come_as_a_mapping_or_by_name(named: tuple[str, ...]) -> None:
    inputs = given()
    keywords = {name: inputs.pop(name) for name in named}
    assert list(checked_inputs(SPECS, inputs or None, keywords, CPU)) == ["image", "index"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("index", None, "missing input of forward: index"),
        ("imge", torch.zeros(1), "unknown input of forward: imge"),
        ("image", [[1.0]], "image is a list, not a tensor"),
        ("image", torch.zeros(2, 8).double(), r"image has dtype torch\.float64"),
        ("index", torch.zeros(2, 2, 1).int(), r"index has dtype torch\.int32"),
        ("image", torch.zeros(2, 8, device="meta"), "image is on meta, the network on cpu"),
        ("image", torch.zeros(16), r"image has shape \(16,\)"),
        ("image", torch.zeros(2, 4), r"image: H \(rows\) is 4"),
        ("image", torch.zeros(2, 10), r"image: H \(rows\) is 10"),
        ("image", torch.zeros(0, 8), r"image: B \(samples\) is 0"),
        ("image", torch.zeros(3, 8), r"index: B \(samples\) is 2, in other inputs 3"),
        ("index", torch.zeros(2, 2, 2).long(), r"index has shape \(2, 2, 2\)"),
    ],
)
def test_wrong_inputs_are_refused_by_name(name: str, value: object, error: str) -> None:
    tensors: dict[str, object] = {**given(), name: value}
    if value is None:
        del tensors[name]
    with pytest.raises(UserError, match=error):
        checked_inputs(SPECS, tensors, {}, CPU)  # type: ignore[arg-type]


def test_a_tensor_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="forward got a Tensor") as caught:
        checked_inputs(SPECS, torch.zeros(2, 8), {}, CPU)  # type: ignore[arg-type]
    assert "image=" in caught.value.hint
