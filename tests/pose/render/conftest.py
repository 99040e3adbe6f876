"""An object set, and a dataset rendered of it without noise, for all tests."""

from pathlib import Path

import pytest

pytest.importorskip("trimesh")
pytest.importorskip("embreex")


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.pose.render.make import make_set

    return make_set(tmp_path_factory.mktemp("objects") / "set")


@pytest.fixture(scope="session")
def rendered(objects: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ffreid.pose.render.command import render

    out = tmp_path_factory.mktemp("rendered") / "toys"
    return render(
        objects, out, frames=3, test=4, size="96x128", instances=2, seed=3, noise=False,
        renderer="embree", workers=1,
    )  # fmt: skip
