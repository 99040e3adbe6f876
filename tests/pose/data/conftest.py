"""Tests of normals and neighbours run in both forms, recorded samples also on the device."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from ffreid.pose.data import depth, pyramid
from ffreid.pose.data.batch import Inputs, Sample, collate
from ffreid.pose.data.sample import make_sample

BOTH = (
    "test_depth",
    "test_depth_golden",
    "test_pyramid",
    "test_pyramid_golden",
    "test_items_golden",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        forms = ["trees", "cells"] + ["device"] * metafunc.module.__name__.endswith("items_golden")
        metafunc.parametrize("search_form", forms, indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def search_form(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prepare with scipy's trees and numpy, or with cells and normals compiled by numba."""
    form = getattr(request, "param", None)
    if form == "cells":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        if form is not None:
            patch.setattr(pyramid, "USE_CELLS", form == "cells")
            patch.setattr(depth, "USE_COMPILED", form == "cells")
        if form == "device":
            patch.setattr(request.module, "make_sample", sample_on_device)
        yield


def sample_on_device(*args: Any, points: int, **options: Any) -> Sample:
    """A sample as `make_sample` makes, its inputs prepared as those of a batch."""
    if points > 4096:
        pytest.skip("all distances of a large frame take 14 s")
    sample = make_sample(*args, points=points, **options, on_device=True)
    assert isinstance(sample, Sample)
    inputs = vars(collate([sample]).to(torch.device("cpu")).inputs)
    first: dict[str, Any] = {}
    first |= {
        n: tuple(x[0] for x in v) if isinstance(v, tuple) else v[0] for n, v in inputs.items()
    }
    return replace(sample, inputs=Inputs(**first))
