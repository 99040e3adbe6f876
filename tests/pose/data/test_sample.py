"""From a frame to what the network reads."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid.errors import UserError
from ffreid.pose.data.batch import Sample, SkippedFrame
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.sample import choose_points, make_sample
from ffreid.pose.objects import ObjectModels, ycb_objects

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


def sample(
    of: Frame,
    *,
    fill_holes: bool = False,
    points: int = 1024,
    objects: ObjectModels = OBJECTS,
    choose: npt.NDArray[np.int32] | None = None,
) -> Sample:
    made = make_sample(
        of,
        objects,
        points=points,
        rng=np.random.RandomState(1),
        fill_holes=fill_holes,
        choose=choose,
    )
    assert isinstance(made, Sample)
    return made


@pytest.mark.parametrize("fill_holes", [True, False])
def test_points_lie_where_their_pixels_see_them(fill_holes: bool) -> None:
    of = frame()
    inputs = sample(of, fill_holes=fill_holes).inputs
    cloud = inputs.features[:3].numpy().astype(float)
    seen = of.intrinsics @ cloud
    pixels = inputs.choose.numpy()
    np.testing.assert_allclose(seen[0] / seen[2], pixels % 72, atol=1e-3)
    np.testing.assert_allclose(seen[1] / seen[2], pixels // 72, atol=1e-3)
    depth = of.depth.reshape(-1)[pixels] / of.depth_scale
    # Filling dilates the nearer surface, also on a slope.
    np.testing.assert_allclose(cloud[2], depth, atol=0.01 if fill_holes else 0.001)


def test_a_keypoint_is_a_point_minus_its_offset() -> None:
    made = sample(frame())
    targets, gt = made.targets, made.gt
    cloud = made.inputs.features[:3].T
    for row, class_id in enumerate((7, 3)):
        own = targets.labels == class_id
        assert own.any()
        found = cloud[own, None] - targets.keypoint_offsets[own]
        expected = torch.from_numpy(gt.keypoints_camera[row]).expand_as(found)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_centre_is_a_point_minus_its_offset() -> None:
    made = sample(frame())
    own = made.targets.labels == 3
    found = made.inputs.features[:3].T[own] - made.targets.centre_offsets[own]
    expected = torch.from_numpy(made.gt.centres_camera[1]).expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_background_has_no_offsets() -> None:
    targets = sample(frame()).targets
    behind = targets.labels == 0
    assert behind.any()
    assert not targets.keypoint_offsets[behind].any()
    assert not targets.centre_offsets[behind].any()


def test_the_truth_turns_and_moves_keypoints_and_centres() -> None:
    gt = sample(frame()).gt
    pose = np.array(TURNED)
    expected = OBJECTS.keypoints[2] @ pose[:, :3].T + pose[:, 3]
    np.testing.assert_allclose(gt.keypoints_camera[1], expected, atol=1e-6)
    centre = pose[:, :3] @ OBJECTS.centres[2] + pose[:, 3]
    np.testing.assert_allclose(gt.centres_camera[1], centre, atol=1e-6)


@pytest.mark.parametrize("scale", [1000.0, 5000.0, 10000.0])
@pytest.mark.parametrize("fill_holes", [True, False])
def test_the_depth_scale_changes_nothing_but_rounding(scale: float, fill_holes: bool) -> None:
    choose = np.random.RandomState(0).randint(0, 64 * 72, 1024).astype(np.int32)
    made = sample(frame(scale=scale), fill_holes=fill_holes, choose=choose)
    known = sample(frame(), fill_holes=fill_holes, choose=choose)
    difference = (made.inputs.features[:3] - known.inputs.features[:3]).abs()
    assert difference.max() < 0.0015


def test_millimetres_are_cut_off_not_rounded() -> None:
    of = frame()
    of.depth[:] = 9009
    made = sample(of, fill_holes=False)
    np.testing.assert_array_equal(made.inputs.features[2], np.float32(0.9))


def test_filled_depth_keeps_its_tenths_of_millimetres() -> None:
    of = frame()
    of.depth[:] = 9009
    made = sample(of, fill_holes=True)
    np.testing.assert_allclose(made.inputs.features[2], 0.9009, atol=1e-6)


def test_depth_that_is_no_number_counts_as_missing() -> None:
    of = frame()
    of.depth[:10] = np.nan
    made = sample(of, fill_holes=False)
    assert made.inputs.choose.min() >= 10 * 72
    assert made.inputs.features.isfinite().all()


@pytest.mark.parametrize(("valid", "sampled"), [(399, False), (400, True)])
def test_frames_with_fewer_than_400_measured_pixels_are_skipped(valid: int, sampled: bool) -> None:
    made = make_sample(
        frame(valid=valid),
        OBJECTS,
        points=1024,
        rng=np.random.RandomState(0),
        index=5,
        fill_holes=False,
    )
    assert isinstance(made, Sample) is sampled
    assert made.gt.index == 5
    if isinstance(made, SkippedFrame):
        assert made.reason == "399 pixels have depth, at least 400 are needed"
        assert made.gt.class_ids.tolist() == [7, 3]


def test_a_frame_without_objects_is_a_sample() -> None:
    empty = replace(
        frame(),
        labels=np.zeros((64, 72), np.int32),
        class_ids=np.zeros(0, np.int32),
        camera_from_object=np.zeros((0, 3, 4), np.float32),
    )
    made = sample(empty)
    assert made.gt.keypoints_camera.shape == (0, 8, 3)
    assert made.gt.centres_camera.shape == (0, 3)
    assert not made.targets.labels.any()


@pytest.mark.parametrize(("height", "width"), [(60, 72), (64, 70)])
def test_images_that_are_no_multiples_of_eight_are_refused(height: int, width: int) -> None:
    with pytest.raises(UserError, match=r"data/0001/000001: .* multiples of 8") as raised:
        sample(frame(height=height, width=width))
    assert "DATA.SHRINK" in raised.value.hint


def test_too_few_points_for_the_last_level_are_refused() -> None:
    with pytest.raises(UserError, match=r"MODEL.POINTS is 1023") as raised:
        sample(frame(), points=1023)
    assert "MODEL.POINTS to 1024" in raised.value.hint


def test_the_choice_is_the_recorded_one() -> None:
    chosen = choose_points(np.arange(12288), 1024, np.random.RandomState(3002))
    assert chosen[:6].tolist() == [10650, 515, 11950, 8512, 2176, 2733]
    assert int(chosen.sum()) == 6327375


def test_no_pixel_is_chosen_twice_while_there_are_enough() -> None:
    valid = np.arange(0, 900, 3)
    chosen = choose_points(valid, 200, np.random.RandomState(0))
    assert len(set(chosen.tolist())) == 200
    assert set(chosen.tolist()) <= set(valid.tolist())


@pytest.mark.parametrize("count", [5, 7, 12])
def test_too_few_pixels_are_repeated_from_the_start(count: int) -> None:
    chosen = choose_points(np.array([2, 4, 8, 16, 32]), count, np.random.RandomState(0))
    expected = np.resize([2, 4, 8, 16, 32], count)
    assert chosen.dtype == np.int32
    assert sorted(chosen.tolist()) == sorted(expected.tolist())


def test_the_order_is_random() -> None:
    chosen = choose_points(np.arange(100), 100, np.random.RandomState(0))
    assert (np.diff(chosen) < 0).any()
