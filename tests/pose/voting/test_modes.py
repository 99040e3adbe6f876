"""Modes of the votes' density, from seeds."""

import pytest
import torch
from torch import Tensor

from ffreid.pose.toy.dataset import toy_object_models
from ffreid.pose.voting import modes
from ffreid.pose.voting.modes import KERNEL, REACH, find_modes
from tests.vote_modes import CASES, errors, simulate

BANDWIDTH = 0.04


def _votes(seed: int, fits: int, count: int, outliers: float = 0.1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    votes = torch.randn(fits, count, 3, generator=generator, dtype=torch.float64) * 0.012 + 20.0
    far = torch.rand(fits, count, generator=generator) < outliers
    spread = torch.rand(fits, count, 3, generator=generator, dtype=torch.float64) - 0.5
    return votes + torch.where(far[..., None], spread, 0)


def _plain(votes: Tensor) -> tuple[Tensor, Tensor]:
    """Mode (3,) of one fit (N, 3), from its mean, and the votes near it."""
    mode = votes.median(0).values
    for _ in range(200):
        squares = ((votes - mode) / (KERNEL * BANDWIDTH)).square().sum(1)
        weights = torch.exp(-0.5 * squares)
        mode = (weights[:, None] * votes).sum(0) / weights.sum()
    return mode, (votes - mode).norm(dim=1) <= REACH * BANDWIDTH


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 2e-5), (torch.float32, 5e-5)])
def test_every_fit_ends_at_a_mode(dtype: torch.dtype, near: float) -> None:
    votes = [_votes(seed, 3, count) for seed, count in enumerate((40, 7, 1, 300))]
    found = find_modes([own.to(dtype) for own in votes], bandwidth=BANDWIDTH)
    for (centres, inliers), own in zip(found, votes, strict=True):
        assert centres.dtype == dtype and inliers.shape == own.shape[:2]
        for centre, inlier, fit in zip(centres, inliers, own, strict=True):
            expected, expected_inliers = _plain(fit)
            assert (centre - expected).norm() < near
            assert torch.equal(inlier, expected_inliers)


@pytest.mark.parametrize("limit", [1, 1 << 18])
def test_a_fit_does_not_depend_on_those_beside_it(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "_VALUES_ON_CPU", limit)
    votes = [_votes(seed, 8, count, 0.4) for seed, count in enumerate((5, 60, 200))]
    together = find_modes(votes, bandwidth=BANDWIDTH)
    for own, (centres, inliers) in zip(votes, together, strict=True):
        ((alone, alone_inliers),) = find_modes([own], bandwidth=BANDWIDTH)
        torch.testing.assert_close(centres, alone, rtol=0, atol=1e-10)
        assert torch.equal(inliers, alone_inliers)


def test_votes_all_around_a_mode_leave_the_nearest_as_inlier() -> None:
    directions = torch.nn.functional.normalize(_votes(3, 1, 200, 0.0) - 20.0, dim=2)
    distances = torch.full((200, 1), 1.6 * KERNEL * BANDWIDTH)
    distances[50] *= 0.99
    ((_, inliers),) = find_modes([directions * distances], bandwidth=BANDWIDTH)
    assert inliers.any()


@pytest.mark.parametrize("case", ["20 % outliers, 3 mm", "clean, 40 mm", "two objects, 10 cm"])
def test_poses_are_not_worse_than_in_the_exact_mode(case: str) -> None:
    objects = toy_object_models("toy-pose")
    frames = [simulate(seed, 60, *CASES[case], objects) for seed in range(8)]
    fast, exact = (errors(frames, mode).mean(0) for mode in ("fast", "exact"))
    assert (fast < 1.05 * exact + 1e-5).all()
