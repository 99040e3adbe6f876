"""Tests of neighbours run in both forms of the search."""

from collections.abc import Iterator

import pytest

from ffreid.pose.data import pyramid

BOTH = ("test_pyramid", "test_pyramid_golden", "test_items_golden")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        metafunc.parametrize("search_form", ["trees", "cells"], indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def search_form(request: pytest.FixtureRequest) -> Iterator[None]:
    """Search with scipy's trees, or with cells, which need numba."""
    form = getattr(request, "param", None)
    if form == "cells":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        if form is not None:
            patch.setattr(pyramid, "USE_CELLS", form == "cells")
        yield
