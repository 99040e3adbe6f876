"""Depth maps on small data."""

import numpy as np
import pytest

from ffreid.pose.data.depth import back_project, downscale_frame, fill_missing, normals_from_depth
from ffreid.pose.data.frame import Frame

# A corner of a recorded depth map (mm) and the original's normal at its pixel (6, 6).
CORNER = [
    [1331, 1333, 1335, 1335, 1337, 1341, 1087, 1083, 1082, 1078, 1076, 1072, 1070, 1067],
    [1338, 1339, 1341, 1344, 1083, 1080, 1078, 1076, 1072, 1071, 1069, 1065, 0, 0],
    [1343, 1347, 1083, 1079, 1075, 1073, 1070, 1068, 1066, 1063, 1061, 1058, 0, 0],
    [1353, 1079, 1075, 1072, 1069, 1066, 1062, 1063, 1057, 1058, 1055, 0, 0, 0],
    [1073, 1068, 1069, 1064, 1062, 1060, 1058, 1055, 1053, 1052, 1047, 1045, 0, 0],
    [1066, 1064, 1061, 1059, 1058, 1054, 1051, 1049, 1046, 1042, 1041, 1039, 0, 0],
    [1071, 1060, 1055, 1051, 1048, 1047, 1043, 1042, 1039, 1038, 1034, 1033, 1031, 1028],
    [1080, 1069, 1059, 1047, 1042, 1042, 1037, 1036, 1034, 1030, 1027, 1024, 1022, 1021],
    [1394, 1076, 1067, 1056, 1044, 1036, 1030, 1028, 1026, 1023, 1022, 1018, 1017, 1013],
    [1403, 1085, 1073, 1063, 1053, 1044, 1035, 1023, 1018, 1017, 1016, 1013, 1010, 1009],
    [0, 1413, 1083, 1073, 1061, 1049, 1043, 1031, 1022, 1011, 1011, 1006, 1004, 1001],
    [1421, 1419, 1091, 1080, 1070, 1058, 1048, 1039, 1030, 1020, 1009, 1001, 999, 996],
    [1425, 1429, 1099, 1089, 1077, 1066, 1055, 1046, 1038, 1028, 1017, 1007, 998, 990],
    [1433, 1436, 1438, 1096, 1086, 1075, 1065, 1055, 1044, 1034, 1026, 1016, 1007, 998],
]
NORMAL = [-0.715994119644165, -0.19572851061820984, -0.4728207290172577]

CAMERA = np.array([[500.0, 0, 15.5], [0, 510.0, 11.25], [0, 0, 1]])


def test_a_normal_is_bit_for_bit_the_recorded_one() -> None:
    normals = normals_from_depth(np.array(CORNER, np.uint16), 572.4114, 573.57043)
    assert normals[6, 6].tolist() == NORMAL


def test_a_wall_has_normals_towards_the_camera_or_into_the_surface() -> None:
    depth = np.full((20, 20), 800, np.uint16)
    normals = normals_from_depth(depth, 500.0, 500.0)
    np.testing.assert_array_equal(normals[10, 10], [0, 0, -1])
    np.testing.assert_array_equal(
        normals_from_depth(depth, 500.0, 500.0, into_surface=True), -normals
    )


@pytest.mark.parametrize("radius", [5, 15])
def test_narrow_and_wide_integers_give_the_same_normals(radius: int) -> None:
    rng = np.random.RandomState(0)
    depth = (900 + rng.randint(0, 15, (48, 56))).astype(np.uint16)
    near = normals_from_depth(depth, 500.0, 500.0, radius=radius)
    wide = normals_from_depth(depth, 500.0, 500.0, radius=radius, max_distance=10**6)
    assert near.any()
    np.testing.assert_array_equal(near, wide)


@pytest.mark.parametrize("shape", [(5, 40), (11, 40), (40, 11), (12, 12)])
def test_small_images_have_no_normals(shape: tuple[int, int]) -> None:
    normals = normals_from_depth(np.full(shape, 500, np.uint16), 500.0, 500.0)
    np.testing.assert_array_equal(normals, np.zeros((*shape, 3)))


def test_a_hole_is_filled_from_its_neighbourhood() -> None:
    depth = np.full((32, 40), 8000, np.uint16)
    depth[14:18, 18:22] = 0
    filled = fill_missing(depth, 10000)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, 8000, atol=0.01)


def test_a_hole_between_two_surfaces_is_filled_from_the_nearer() -> None:
    depth = np.full((32, 40), 15000, np.uint16)
    depth[:, :18] = 6000
    depth[:, 18:21] = 0
    np.testing.assert_allclose(fill_missing(depth, 10000)[16, 18], 6000, atol=1)


def test_depth_beyond_the_maximum_is_missing() -> None:
    filled = fill_missing(np.full((32, 40), 35000, np.uint16), 10000)
    assert (filled <= 0).all()


def test_above_the_topmost_measurement_only_extrapolation_fills() -> None:
    depth = np.zeros((64, 64), np.uint16)
    depth[50:] = 9000
    assert fill_missing(depth, 10000)[0, 30] == 0
    np.testing.assert_allclose(fill_missing(depth, 10000, extrapolate=True)[0, 30], 9000, atol=1)


def test_back_projected_points_project_to_their_pixels() -> None:
    depth = np.random.RandomState(1).uniform(0.5, 2, (24, 32)).astype(np.float32)
    points = back_project(depth, CAMERA).astype(float)
    projected = points @ CAMERA.T
    rows, columns = np.mgrid[:24, :32]
    np.testing.assert_allclose(projected[..., 0] / projected[..., 2], columns, atol=1e-4)
    np.testing.assert_allclose(projected[..., 1] / projected[..., 2], rows, atol=1e-4)
    np.testing.assert_array_equal(points[..., 2], depth)


@pytest.mark.parametrize("value", [0.0, -0.4, np.nan, np.inf])
def test_a_pixel_without_depth_is_the_origin(value: float) -> None:
    points = back_project(np.full((2, 2), value, np.float32), CAMERA)
    np.testing.assert_array_equal(points, 0)


def test_a_downscaled_frame_has_points_of_the_full_one_and_averaged_colours() -> None:
    depth = np.random.RandomState(2).uniform(500, 900, (27, 33)).astype(np.float32)
    rgb = np.arange(27 * 33 * 3, dtype=np.uint8).reshape(27, 33, 3)
    labels = np.arange(27 * 33, dtype=np.int32).reshape(27, 33)
    small = downscale_frame(Frame("f", rgb, depth, 1000.0, labels, CAMERA), 4)
    np.testing.assert_array_equal(small.labels, labels[:24:4, :32:4])
    points = back_project(depth, CAMERA)[:24:4, :32:4]
    np.testing.assert_allclose(back_project(small.depth, small.intrinsics), points, atol=1e-3)
    mean = rgb[:24, :32].reshape(6, 4, 8, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small.rgb, mean, atol=0.51)
