"""The README's Python example runs as it stands."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

README = Path(__file__).resolve().parents[1] / "README.md"


def example() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    found: list[str] = [block for block in blocks if "ffreid.create_model" in block]
    assert len(found) == 1, f"{len(found)} worked examples in {README.name}"
    return found[0]


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    """The example's names after it has run, and what it ``printed``."""
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(example(), README.name, "exec"), names)
    return {**names, "printed": printed.getvalue()}


def test_the_example_predicts_poses(ran: dict[str, Any]) -> None:
    assert ran["poses"]
    assert all(pose.camera_from_object.shape == (3, 4) for pose in ran["poses"])


def test_the_example_embeds_pictures(ran: dict[str, Any]) -> None:
    for features in (ran["a"], ran["b"]):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    assert ran["cosines"].shape == (4, 4)


def test_the_example_scores_what_it_found(ran: dict[str, Any]) -> None:
    assert ran["scores"]["CC"]["valid"] == 4


def test_what_the_example_says_it_prints_it_prints(ran: dict[str, Any]) -> None:
    said = re.findall(r"print\(.*\)  # (?!\()(.+)", example())
    assert len(said) > 2
    for words in said:
        assert words.removesuffix(", …") in ran["printed"]
