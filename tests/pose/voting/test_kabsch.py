"""The rigid fit against exact motions and a recorded one."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from ffreid.pose.voting.frame import best_fit_transform

Matrix = npt.NDArray[np.float64]


def _points(seed: int, shape: tuple[int, ...]) -> Matrix:
    return np.random.default_rng(seed).normal(size=shape)


def test_an_exact_motion_is_found_for_every_set_of_a_batch() -> None:
    rotations = Rotation.random(4, rng=np.random.default_rng(0)).as_matrix()
    shifts, source = _points(1, (4, 3)), _points(2, (4, 9, 3))
    target = source @ rotations.transpose(0, 2, 1) + shifts[:, None]
    found = best_fit_transform(source, target)
    np.testing.assert_allclose(found[..., :3], rotations, atol=1e-12)
    np.testing.assert_allclose(found[..., 3], shifts, atol=1e-12)


@pytest.mark.parametrize("flatten", [False, True])
def test_a_mirror_image_gets_a_rotation_still(flatten: bool) -> None:
    source = _points(3, (8, 3)) * ([1, 1, 0] if flatten else [1, 1, 1])
    rotation = best_fit_transform(source, source * [-1, 1, 1])[:, :3]
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_recorded_fit_of_four_points() -> None:
    source = [
        [0.0330143172, -0.0103818541, 0.0919007101],
        [-0.0237422181, -0.0074528943, -0.0625768503],
        [-0.0052943741, -0.1087856138, -0.0494741742],
        [0.0487340528, -0.0028253313, -0.0914944395],
    ]
    target = [
        [-0.1537550130, 0.0715754042, 0.8823163000],
        [-0.1438770049, -0.0936207611, 0.8925491660],
        [-0.0467621984, -0.0687690358, 0.8957093208],
        [-0.1438158993, -0.0985772008, 0.8132734572],
    ]
    expected = [
        [0.1172896218, -0.9879263654, -0.1012158145, -0.1583939220],
        [0.2953506210, -0.0626069496, 0.9533353977, -0.0266573385],
        [-0.9481619879, -0.1417105019, 0.2844415201, 0.8868100344],
    ]
    found = best_fit_transform(np.array(source), np.array(target))
    np.testing.assert_allclose(found, expected, atol=1e-7)
