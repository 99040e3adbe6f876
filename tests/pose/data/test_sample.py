"""From a frame to a sample of the network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.sample import choose_points, make_sample
from ffreid.pose.objects import ycb_objects

OBJECTS = ycb_objects()
TURNED = [[0.0, -1, 0, 0.1], [1, 0, 0, -0.05], [0, 0, 1, 0.9]]


def frame(
    *, scale: float = 10000, height: int = 64, width: int = 72, valid: int | None = None
) -> Frame:
    """Two objects before a sloping wall, about a metre away."""
    rng = np.random.RandomState(0)
    metres = 0.9 + 0.002 * np.arange(width)[None] + 0.001 * rng.rand(height, width)
    depth = np.round(metres * scale).astype(np.float32)
    if valid is not None:
        depth.reshape(-1)[valid:] = 0
    labels = np.zeros((height, width), np.int32)
    labels[8:24, 8:30] = 3
    labels[30:50, 30:60] = 7
    poses = np.stack([np.eye(3, 4), np.array(TURNED)]).astype(np.float32)
    poses[0, 2, 3] = 1
    return Frame(
        name="data/0001/000001",
        rgb=rng.randint(0, 256, (height, width, 3)).astype(np.uint8),
        depth=depth,
        depth_scale=scale,
        labels=labels,
        intrinsics=np.array([[600.0, 0, 36], [0, 610, 32], [0, 0, 1]]),
        class_ids=np.array([7, 3], np.int32),
        camera_from_object=poses,
    )


def sample(of: Frame, **options: Any) -> Sample:
    defaults: dict[str, Any] = {"points": 1024, "fill_holes": False}
    result = make_sample(of, OBJECTS, rng=np.random.RandomState(1), **defaults | options)
    assert isinstance(result, Sample)
    return result


@pytest.mark.parametrize("fill_holes", [True, False])
def test_points_project_to_their_pixels(fill_holes: bool) -> None:
    of = frame()
    inputs = sample(of, fill_holes=fill_holes).inputs
    cloud = inputs.features[:3].numpy().astype(float)
    projected = of.intrinsics @ cloud
    pixels = inputs.choose.numpy()
    np.testing.assert_allclose(projected[0] / projected[2], pixels % 72, atol=1e-3)
    np.testing.assert_allclose(projected[1] / projected[2], pixels // 72, atol=1e-3)
    depth = of.depth.reshape(-1)[pixels] / of.depth_scale
    # Filling dilates the nearer surface, also on a slope.
    np.testing.assert_allclose(cloud[2], depth, atol=0.01 if fill_holes else 0.001)


def test_keypoints_and_centres_are_points_minus_their_offsets_and_moved_by_the_pose() -> None:
    result = sample(frame())
    targets, gt, cloud = result.targets, result.gt, result.inputs.features[:3].T.numpy()
    for row, class_id in enumerate((7, 3)):
        mask = targets.labels == class_id
        assert mask.any()
        keypoints = cloud[mask, None] - targets.keypoint_offsets[mask].numpy()
        centres = cloud[mask] - targets.centre_offsets[mask].numpy()
        np.testing.assert_allclose(keypoints - gt.keypoints_camera[row], 0, atol=1e-6)
        np.testing.assert_allclose(centres - gt.centres_camera[row], 0, atol=1e-6)
    background = targets.labels == 0
    assert background.any()
    assert not targets.keypoint_offsets[background].any()
    assert not targets.centre_offsets[background].any()
    pose = np.array(TURNED)
    expected = OBJECTS.keypoints[2] @ pose[:, :3].T + pose[:, 3]
    np.testing.assert_allclose(gt.keypoints_camera[1], expected, atol=1e-6)
    centre = pose[:, :3] @ OBJECTS.centres[2] + pose[:, 3]
    np.testing.assert_allclose(gt.centres_camera[1], centre, atol=1e-6)


@pytest.mark.parametrize("scale", [1000.0, 5000.0, 10000.0])
@pytest.mark.parametrize("fill_holes", [True, False])
def test_the_depth_scale_changes_nothing_but_rounding(scale: float, fill_holes: bool) -> None:
    choose = np.random.RandomState(0).randint(0, 64 * 72, 1024).astype(np.int32)
    scaled, expected = (
        sample(frame(scale=s), fill_holes=fill_holes, choose=choose).inputs.features[:3]
        for s in (scale, 10000)
    )
    assert (scaled - expected).abs().max() < 0.0015


@pytest.mark.parametrize(("fill_holes", "depth"), [(False, 0.9), (True, 0.9009)])
def test_only_depth_that_is_not_filled_is_truncated_to_millimetres(
    fill_holes: bool, depth: float
) -> None:
    of = frame()
    of.depth[:] = 9009
    features = sample(of, fill_holes=fill_holes).inputs.features
    np.testing.assert_allclose(features[2], depth, atol=1e-6)


def test_nan_depth_counts_as_missing() -> None:
    of = frame()
    of.depth[:10] = np.nan
    inputs = sample(of).inputs
    assert inputs.choose.min() >= 10 * 72
    assert inputs.features.isfinite().all()


@pytest.mark.parametrize(("valid", "sampled"), [(399, False), (400, True)])
def test_frames_with_fewer_than_400_measured_pixels_are_skipped(valid: int, sampled: bool) -> None:
    rng = np.random.RandomState(0)
    result = make_sample(
        frame(valid=valid), OBJECTS, points=1024, rng=rng, index=5, fill_holes=False
    )
    assert isinstance(result, Sample) is sampled
    assert (result.gt.index, result.gt.class_ids.tolist()) == (5, [7, 3])
    if isinstance(result, SkippedFrame):
        assert result.reason == "399 pixels have depth, at least 400 are needed"


def test_a_frame_without_objects_is_a_sample() -> None:
    empty = replace(
        frame(),
        labels=np.zeros((64, 72), np.int32),
        class_ids=np.zeros(0, np.int32),
        camera_from_object=np.zeros((0, 3, 4), np.float32),
    )
    result = sample(empty)
    assert result.gt.keypoints_camera.shape == (0, 8, 3)
    assert result.gt.centres_camera.shape == (0, 3)
    assert not result.targets.labels.any()


def test_too_few_points_are_an_error() -> None:
    with pytest.raises(UserError, match=r"MODEL\.POINTS is 1023") as raised:
        sample(frame(), points=1023)
    assert "MODEL.POINTS to 1024" in raised.value.hint


@pytest.mark.parametrize(("height", "width"), [(60, 72), (64, 70), (57, 65)])
@pytest.mark.parametrize("fill_holes", [True, False])
def test_other_sizes_are_padded_and_the_points_stay_the_same(
    height: int, width: int, fill_holes: bool
) -> None:
    cut = frame(height=height, width=width)
    padded = sample(cut, fill_holes=fill_holes)
    assert padded.inputs.rgb.shape == (3, 64, 72)
    assert not padded.inputs.rgb[:, height:].any()
    assert not padded.inputs.rgb[:, :, width:].any()
    rows, columns = np.divmod(padded.inputs.choose.numpy(), 72)
    assert rows.max() < height
    assert columns.max() < width
    x, y, z = padded.inputs.features[:3].numpy()
    camera = cut.intrinsics
    np.testing.assert_allclose(x * camera[0, 0], (columns - camera[0, 2]) * z, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(y * camera[1, 1], (rows - camera[1, 2]) * z, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(padded.targets.labels, cut.labels[rows, columns])
    np.testing.assert_array_equal(padded.inputs.features[3:6].T, cut.rgb[rows, columns])


def test_the_recorded_pixels_are_chosen_each_once() -> None:
    chosen = choose_points(np.arange(12288), 1024, np.random.RandomState(3002))
    assert chosen[:6].tolist() == [10650, 515, 11950, 8512, 2176, 2733]
    assert int(chosen.sum()) == 6327375
    assert len(set(chosen.tolist())) == 1024


@pytest.mark.parametrize("count", [5, 7, 12])
def test_too_few_pixels_are_repeated_from_the_start(count: int) -> None:
    chosen = choose_points(np.array([2, 4, 8, 16, 32]), count, np.random.RandomState(0))
    expected = np.resize([2, 4, 8, 16, 32], count)
    assert chosen.dtype == np.int32
    assert sorted(chosen.tolist()) == sorted(expected.tolist())
