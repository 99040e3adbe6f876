"""Noise and motion blur as recorded from the original."""

import re

import numpy as np
import pytest

from ffreid.pose.data.augment import Policy, add_noise, motion_blur
from tests.golden import arrays, recordings

pytestmark = pytest.mark.golden

CASES = recordings("ffb6d", "augment*.npz")


@pytest.mark.parametrize(("prefix", "policy"), [("ycb", "ycb"), ("lm", "linemod")])
@pytest.mark.parametrize("stem", CASES)
def test_noise_is_as_recorded(stem: str, prefix: str, policy: Policy) -> None:
    recorded = arrays("ffb6d", stem)
    keys = [key for key in recorded if re.fullmatch(rf"{prefix}_\d+", key)]
    assert keys
    for key in keys:
        seed = int(key.rpartition("_")[2])
        noisy = add_noise(recorded["img"], np.random.RandomState(seed), policy=policy)
        np.testing.assert_array_equal(noisy, recorded[key], err_msg=key)


@pytest.mark.parametrize("stem", CASES)
def test_motion_blur_is_as_recorded(stem: str) -> None:
    recorded = arrays("ffb6d", stem)
    keys = [key for key in recorded if re.fullmatch(r"blur_\d+_\d+", key)]
    assert keys
    for key in keys:
        angle, length = (int(number) for number in key.split("_")[1:])
        blurred = motion_blur(recorded["img"], angle, length)
        np.testing.assert_array_equal(blurred, recorded[key], err_msg=key)
