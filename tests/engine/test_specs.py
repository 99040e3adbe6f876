"""Tensors told as data: shapes in symbols, ranges, and what is refused."""

import pytest
import torch
from torch import Tensor

from ffreid.engine.specs import Size, Symbol, TensorSpec, size_of, taken
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


@pytest.mark.parametrize(
    ("size", "number"),
    [(3, 3), ("B", 2), ("H // 4", 4), ("H * W // 16", 20), ("4 * B", 8)],
)
def test_a_size_is_counted_from_left_to_right(size: Size, number: int) -> None:
    assert size_of(size, {"B": 2, "H": 16, "W": 20}) == number


def test_a_spec_gives_shape_and_range_in_numbers() -> None:
    assert INDEX.sizes(B=2, H=8) == (2, 2, 1)
    assert INDEX.bounds(B=2, H=8) == (0, 16)
    assert IMAGE.bounds(B=2, H=8) is None


def test_a_spec_reads_as_a_line() -> None:
    assert str(INDEX) == "index (B, H // 4, 1) int64 [index]: places"
    assert str(H) == "rows"


@pytest.mark.parametrize("named", [(), ("index",), ("image", "index")])
def test_tensors_come_as_a_mapping_or_by_name(named: tuple[str, ...]) -> None:
    inputs = given()
    keywords = {name: inputs.pop(name) for name in named}
    assert list(taken(SPECS, inputs or None, keywords, CPU)) == ["image", "index"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("index", None, "forward lacks index"),
        ("imge", torch.zeros(1), "forward does not know imge"),
        ("image", [[1.0]], "image is a list, no tensor"),
        ("image", torch.zeros(2, 8).double(), r"image is torch\.float64"),
        ("index", torch.zeros(2, 2, 1).int(), r"index is torch\.int32"),
        ("image", torch.zeros(2, 8, device="meta"), "image is on meta, the network on cpu"),
        ("image", torch.zeros(16), r"image has shape \(16,\)"),
        ("image", torch.zeros(2, 4), r"image: H \(rows\) is 4"),
        ("image", torch.zeros(2, 10), r"image: H \(rows\) is 10"),
        ("image", torch.zeros(0, 8), r"image: B \(samples\) is 0"),
        ("image", torch.zeros(3, 8), r"index has shape \(2, 2, 1\), \(3, 2, 1\) is expected"),
        ("image", torch.zeros(2, 12), r"index has shape \(2, 2, 1\), \(2, 3, 1\) is expected"),
    ],
)
def test_what_a_network_does_not_take_is_named(name: str, value: object, error: str) -> None:
    tensors: dict[str, object] = {**given(), name: value}
    if value is None:
        del tensors[name]
    with pytest.raises(UserError, match=error):
        taken(SPECS, tensors, {}, CPU)  # type: ignore[arg-type]


def test_a_bare_tensor_is_told_to_be_named() -> None:
    with pytest.raises(UserError, match="forward was given a Tensor") as caught:
        taken(SPECS, torch.zeros(2, 8), {}, CPU)  # type: ignore[arg-type]
    assert "image=" in caught.value.hint
