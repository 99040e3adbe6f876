"""Mean shift against fits and clusters recorded from the original."""

import pytest
import torch

from ffreid.pose.voting.meanshift import mean_shift, mean_shift_clusters
from tests.golden import arrays, facts, recordings

pytestmark = pytest.mark.golden


def _cases(key: str) -> list[object]:
    """Every recorded set of points that has `key`, as (stem, name)."""
    cases: list[object] = []
    for stem in recordings("ffb6d", "meanshift*.npz"):
        if not isinstance(stem, str):
            return [pytest.param("", "", marks=stem.marks)]
        actual = [name for name in facts("ffb6d", stem) if f"{name}/{key}" in arrays("ffb6d", stem)]
        assert actual, f"no {key} in {stem}"
        cases += [pytest.param(stem, name, id=f"{stem}-{name}") for name in actual]
    return cases


@pytest.mark.parametrize(("stem", "name"), _cases("center"))
def test_fit_ends_where_the_original_ends(stem: str, name: str) -> None:
    recorded, settings = arrays("ffb6d", stem), facts("ffb6d", stem)[name]
    bandwidth = settings["bandwidth"]

    centres, inliers, updates = mean_shift(
        torch.from_numpy(recorded[f"{name}/A"])[None],
        bandwidth=bandwidth,
        max_iterations=settings["max_iter"],
    )

    expected = torch.from_numpy(recorded[f"{name}/center"])
    assert (centres[0] - expected).norm() < 1e-3 * bandwidth
    assert inliers[0].tolist() == recorded[f"{name}/labels"].astype(bool).tolist()
    assert abs(int(updates[0]) - settings["iterations"]) <= 1


@pytest.mark.parametrize(("stem", "name"), _cases("multi_centers"))
def test_clusters_are_the_originals(stem: str, name: str) -> None:
    recorded, settings = arrays("ffb6d", stem), facts("ffb6d", stem)[name]
    bandwidth = settings["bandwidth"]

    centres, labels, sizes = mean_shift_clusters(
        torch.from_numpy(recorded[f"{name}/A"]),
        bandwidth=bandwidth,
        max_iterations=settings["max_iter"],
    )

    assert sizes.tolist() == recorded[f"{name}/multi_counts"].tolist()
    assert labels.tolist() == recorded[f"{name}/multi_labels"].tolist()
    expected = torch.from_numpy(recorded[f"{name}/multi_centers"])
    # Right float32 forms drift apart by 5e-6 bandwidths an update, the original included.
    allowed = bandwidth * max(1e-3, 5e-6 * settings["iterations"])
    assert (centres - expected).norm(dim=1).max() < allowed
