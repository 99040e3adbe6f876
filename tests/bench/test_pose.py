"""The table of timings is complete, and the poses of its frame are correct."""

import pytest
import torch

from ffreid.bench.pose import bench
from ffreid.bench.pose_voting import five_object_frame
from ffreid.pose.objects import ycb_objects
from ffreid.pose.voting.frame import frame_poses


@pytest.fixture(autouse=True)
def fewer_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slow reference mean shift."""
    monkeypatch.setattr("ffreid.bench.pose_voting.reference_mean_shift", lambda *_, **__: None)


def test_shares_of_a_frame_add_up_to_one() -> None:
    rows = bench(True, torch.device("cpu"))
    columns = {"stage", "milliseconds", "share", "plain milliseconds", "ratio", "peak MB"}
    assert all(set(row) == columns for row in rows)
    assert all(row["milliseconds"] > 0 for row in rows)
    assert sum(row["share"] or 0.0 for row in rows) == pytest.approx(1)


def test_the_poses_of_the_synthetic_frame_are_correct() -> None:
    frame = five_object_frame(100, torch.Generator().manual_seed(3))
    poses = frame_poses(*frame, ycb_objects())
    assert len(poses) == 5
    positions = sorted(pose.camera_from_object[0, 3] for pose in poses)
    torch.testing.assert_close(
        torch.tensor(positions),
        torch.arange(5, dtype=torch.float64) * 0.25 - 0.5,
        atol=0.01,
        rtol=0,
    )
