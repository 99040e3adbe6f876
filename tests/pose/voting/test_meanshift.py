"""Fast mean shift against the reference implementation."""

import pytest
import torch
from torch import Tensor

from ffreid.bench.reference_pose import reference_mean_shift
from ffreid.pose.voting import meanshift
from ffreid.pose.voting.meanshift import mean_shift, mean_shift_clusters

BANDWIDTH = 0.04


def _votes(seed: int, fits: int, count: int, outliers: float, axes: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    votes = torch.randn(fits, count, axes, generator=generator, dtype=torch.float64) * 0.012
    far = torch.rand(fits, count, generator=generator) < outliers
    spread = torch.rand(fits, count, axes, generator=generator, dtype=torch.float64) - 0.5
    return votes + torch.where(far[..., None], spread, 0) + torch.arange(axes) * 0.4


def _plain(votes: Tensor, bandwidth: float = BANDWIDTH) -> tuple[Tensor, Tensor, list[int]]:
    fits = [reference_mean_shift(fit, bandwidth=bandwidth) for fit in votes]
    return (
        torch.stack([f[0] for f in fits]),
        torch.stack([f[1] for f in fits]),
        [f[2] for f in fits],
    )


@pytest.mark.parametrize("outliers", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.float64, 1e-5), (torch.float32, 2e-4)], ids=["double", "single"]
)
def test_every_fit_is_that_of_the_definition(
    outliers: float, axes: int, dtype: torch.dtype, near: float
) -> None:
    votes = _votes(3, 3, 60, outliers, axes)
    centres, inliers, updates = mean_shift(votes.to(dtype), bandwidth=BANDWIDTH)
    expected_centres, expected_inliers, expected_updates = _plain(votes)
    assert centres.dtype == dtype
    assert (centres - expected_centres).norm(dim=1).max() < near
    assert torch.equal(inliers, expected_inliers)
    assert updates.tolist() == expected_updates


def test_tiles_smaller_than_the_points_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = _votes(5, 2, 70, 0.1)
    untiled, members, _ = mean_shift(votes, bandwidth=BANDWIDTH)
    monkeypatch.setattr(meanshift, "_TILE_ON_CPU", 1000)
    tiled, tiled_members, _ = mean_shift(votes, bandwidth=BANDWIDTH)
    torch.testing.assert_close(tiled, untiled, atol=1e-10, rtol=0)
    assert torch.equal(tiled_members, members)


def test_far_from_the_origin_single_precision_holds() -> None:
    votes = _votes(7, 1, 80, 0.1) + 20.0
    centres, _, _ = mean_shift(votes.float(), bandwidth=BANDWIDTH)
    assert (centres - _plain(votes)[0]).norm() < 2e-4


@pytest.mark.parametrize("limit", [0, 2, 5])
def test_a_fit_makes_one_update_more_than_its_limit(limit: int) -> None:
    votes = _votes(8, 1, 80, 0.5)
    centres, _, updates = mean_shift(votes, bandwidth=BANDWIDTH, max_iterations=limit)
    expected = reference_mean_shift(votes[0], bandwidth=BANDWIDTH, max_iterations=limit)
    assert updates.tolist() == [limit + 1]
    torch.testing.assert_close(centres[0], expected[0], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "points", [[[-0.8036227, -1.0997269, -0.673911]], [[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]]]
)
def test_the_first_of_equal_modes_is_the_centre(points: list[list[float]]) -> None:
    centres, inliers, updates = mean_shift(torch.tensor([points]), bandwidth=BANDWIDTH)
    torch.testing.assert_close(centres[0], torch.tensor(points[0]))
    assert inliers.tolist() == [[True, False][: len(points)]]
    assert updates.tolist() == [1]


def test_clusters_are_ordered_by_size_and_label_every_point() -> None:
    points = torch.tensor([[1.0, 0], [0, 0], [0.01, 0], [3, 3], [0, 0.01], [1.01, 0]])
    centres, labels, sizes = mean_shift_clusters(points, bandwidth=BANDWIDTH)
    assert labels.tolist() == [2, 1, 1, 3, 1, 2]
    assert sizes.tolist() == [3, 2, 1]
    expected = torch.tensor([[0.01 / 3, 0.01 / 3], [1.005, 0], [3, 3]])
    torch.testing.assert_close(centres, expected, atol=1e-4, rtol=0)
