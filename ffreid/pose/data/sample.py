"""One frame prepared for the network: depth, normals, points, targets, neighbours."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ffreid.errors import UserError
from ffreid.pose.data.batch import GroundTruth, Inputs, Sample, SkippedFrame, Targets
from ffreid.pose.data.depth import back_project, fill_missing, normals_from_depth
from ffreid.pose.data.device_prepare import raw_inputs
from ffreid.pose.data.frame import Frame
from ffreid.pose.data.pyramid import NEIGHBOURS, build_pyramid
from ffreid.pose.objects import ObjectModels

# Measured pixels have more than this, in the sensor's units.
MEASURED = 1e-6
# A frame with fewer measured pixels is skipped.
MIN_POINTS = 400


def make_sample(
    frame: Frame,
    objects: ObjectModels,
    *,
    points: int,
    rng: np.random.RandomState,
    index: int = 0,
    fill_holes: bool,
    choose: npt.NDArray[np.integer[Any]] | None = None,
    known: tuple[npt.NDArray[np.float32], ...] | None = None,
    on_device: bool = False,
) -> Sample | SkippedFrame:
    """Prepare a frame for the network.

    Height and width are padded to multiples of 8 at the bottom and the right, after everything is
    computed, with pixels that are black and have no depth.

    Args:
        points: N, points of the sample.
        rng: draws the points (not advanced where `choose` is given).
        fill_holes: fill missing depth (YCB-Video); otherwise depth is truncated to whole
            millimetres (LineMOD), from which normals and points are computed.
        choose: (N,) flat pixels to use instead of drawing them.
        known: the frame's `surface`, where it has been computed before.
        on_device: leave normals and neighbours to the batch's device, see `device_prepare`.

    Returns:
        The sample, or `SkippedFrame` where fewer than `MIN_POINTS` pixels have depth.
    """
    if points // 64 < NEIGHBOURS:
        raise UserError(
            f"MODEL.POINTS is {points}: too few for {NEIGHBOURS} neighbours on the last level",
            f"set MODEL.POINTS to {64 * NEIGHBOURS} or more",
        )
    gt = make_ground_truth(
        frame.name,
        frame.class_ids,
        frame.camera_from_object,
        objects,
        index=index,
        intrinsics=frame.intrinsics.astype(np.float64),
    )
    if on_device and known is None:
        depth = _depth(frame, fill_holes)
    else:
        depth, normals = known or surface(frame, fill_holes=fill_holes)
    scale = frame.depth_scale if fill_holes else 1000.0
    metres: npt.NDArray[np.float32] = depth / np.float32(scale)
    valid = np.flatnonzero(_padded(depth) > MEASURED)
    if len(valid) < MIN_POINTS:
        reason = f"{len(valid)} pixels have depth, at least {MIN_POINTS} are needed"
        return SkippedFrame(gt, reason)
    chosen = choose_points(valid, points, rng) if choose is None else choose.astype(np.int32)
    point_map = _padded(back_project(metres, frame.intrinsics))
    cloud, rgb = point_map.reshape(-1, 3)[chosen], _padded(frame.rgb)
    labels = _padded(frame.labels).reshape(-1)[chosen]
    instances = None
    if frame.instances is not None:
        instances = _padded(frame.instances).reshape(-1)[chosen]
    targets = _make_targets(cloud, labels, gt, instances)
    if on_device:
        planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
        depth_mm = _millimetres(depth, scale)
        return Sample(raw_inputs(planes, depth_mm, metres, chosen, frame.intrinsics), targets, gt)
    normals = _padded(normals)
    rows = [cloud, rgb.reshape(-1, 3)[chosen], normals.reshape(-1, 3)[chosen]]
    features = np.concatenate([np.asarray(row, np.float32).T for row in rows])
    pyramid = build_pyramid(cloud, point_map)
    inputs = Inputs(
        rgb=torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))),
        features=torch.from_numpy(features),
        choose=torch.from_numpy(chosen),
        **{name: tuple(map(torch.from_numpy, levels)) for name, levels in vars(pyramid).items()},
    )
    return Sample(inputs, targets, gt)


def surface(frame: Frame, *, fill_holes: bool) -> tuple[npt.NDArray[np.float32], ...]:
    """Depth (H, W), filled or truncated as in `make_sample`, and normals (H, W, 3)."""
    depth = _depth(frame, fill_holes)
    fx, fy = float(frame.intrinsics[0, 0]), float(frame.intrinsics[1, 1])
    depth_mm = _millimetres(depth, frame.depth_scale if fill_holes else 1000.0)
    return depth, normals_from_depth(depth_mm, fx, fy)


def _depth(frame: Frame, fill_holes: bool) -> npt.NDArray[np.float32]:
    if fill_holes:
        return fill_missing(frame.depth, frame.depth_scale)
    return _millimetres(frame.depth, frame.depth_scale).astype(np.float32)


def _millimetres(depth: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.uint16]:
    # Division by 10 where the scale is 10000, as in the original.
    millimetres = depth / np.float32(scale / 1000)
    # Beyond the filling's largest depth it is negative: not measured.
    clipped: npt.NDArray[np.float32] = np.nan_to_num(millimetres, posinf=0).clip(0, 65535)
    return clipped.astype(np.uint16)


def _padded(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pad (H, W, …) with zeros at the bottom and the right to multiples of 8."""
    height, width = array.shape[:2]
    if not height % 8 and not width % 8:
        return array
    return np.pad(array, [(0, -height % 8), (0, -width % 8)] + [(0, 0)] * (array.ndim - 2))


def make_ground_truth(
    name: str,
    class_ids: npt.NDArray[np.int32],
    camera_from_object: npt.NDArray[np.floating],
    objects: ObjectModels,
    *,
    index: int = 0,
    intrinsics: npt.NDArray[np.float64] | None = None,
) -> GroundTruth:
    """Transform keypoints and centres of (M,) `class_ids` by the (M, 3, 4) poses.

    Without an image there are no intrinsics: they are NaN.
    """
    rotation = camera_from_object[:, :, :3].astype(np.float64).transpose(0, 2, 1)
    translation = camera_from_object[:, None, :, 3]
    keypoints = objects.keypoints[class_ids - 1] @ rotation + translation
    centres = objects.centres[class_ids - 1, None] @ rotation + translation
    return GroundTruth(
        index=index,
        name=name,
        class_ids=class_ids,
        camera_from_object=camera_from_object.astype(np.float32),
        keypoints_camera=keypoints.astype(np.float32),
        centres_camera=centres[:, 0].astype(np.float32),
        intrinsics=np.full((3, 3), np.nan) if intrinsics is None else intrinsics,
    )


def _make_targets(
    cloud: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    gt: GroundTruth,
    instances: npt.NDArray[np.int32] | None,
) -> Targets:
    """Offsets are point minus keypoint, so that a keypoint is a point minus its offset.

    `instances` are 1 + the rows of `gt` that the points are on.
    """
    count = gt.keypoints_camera.shape[1]
    keypoint_offsets = np.zeros((len(cloud), count, 3), np.float32)
    centre_offsets = np.zeros((len(cloud), 3), np.float32)
    for row, class_id in enumerate(gt.class_ids):
        mask = labels == class_id if instances is None else instances == row + 1
        keypoint_offsets[mask] = cloud[mask, None] - gt.keypoints_camera[row]
        centre_offsets[mask] = cloud[mask] - gt.centres_camera[row]
    return Targets(
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(keypoint_offsets),
        torch.from_numpy(centre_offsets),
    )


def choose_points(
    valid: npt.NDArray[np.integer[Any]], count: int, rng: np.random.RandomState
) -> npt.NDArray[np.int32]:
    """Choose (count,) of the measured pixels `valid` (flat indices, ascending), in random order.

    Too few pixels are repeated from the start. The generator is called as the original calls
    numpy's (a second shuffle for more than `count` pixels), so equal seeds give equal choices.
    """
    if len(valid) > count:
        kept = np.zeros(len(valid), int)
        kept[:count] = 1
        rng.shuffle(kept)
        chosen = valid[kept.nonzero()]
    else:
        chosen = np.pad(valid, (0, count - len(valid)), "wrap")
    order = np.arange(count)
    rng.shuffle(order)
    return chosen[order].astype(np.int32)
