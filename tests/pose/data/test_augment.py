"""Augmentation of training frames."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from ffreid.errors import UserError
from ffreid.pose.data.augment import (
    add_real_background,
    augment_synthetic,
    colour_jitter,
    motion_blur,
)
from ffreid.pose.data.frame import Frame


def image(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.RandomState(seed).randint(0, 256, (24, 32, 3)).astype(np.uint8)


def frame(name: str = "data_syn/000001", *, seed: int = 0, scale: float = 10000) -> Frame:
    rng = np.random.RandomState(seed)
    labels = np.zeros((24, 32), np.int32)
    labels[4:12, 4:16] = 1
    depth = rng.randint(5000, 9000, (24, 32)).astype(np.float32)
    depth[:, :3] = 0
    return Frame(name, image(seed), depth, scale, labels, np.eye(3), synthetic=True)


def real_frame(scale: float = 10000) -> Frame:
    real = frame("data/0001/000001", seed=5, scale=scale)
    depth = np.full((24, 32), 1000, np.float32)
    return replace(real, labels=np.roll(real.labels, 8, axis=1), depth=depth, synthetic=False)


def test_motion_blur_spreads_a_dot_along_its_line() -> None:
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 250
    blurred = motion_blur(dot, 0, 5)[..., 0]
    assert set(np.flatnonzero(blurred.any(axis=1))) == {10}
    assert blurred.any(axis=0).sum() == 5


def test_ycb_background_is_the_real_frame_outside_of_both_frames_objects() -> None:
    synthetic, real = frame(), real_frame()
    result = add_real_background(synthetic, real, np.random.RandomState(0), policy="ycb")
    mask, other, missing = synthetic.labels > 0, real.labels > 0, synthetic.depth == 0
    np.testing.assert_array_equal(result.rgb[mask], synthetic.rgb[mask])
    np.testing.assert_array_equal(result.rgb[~mask & ~other], real.rgb[~mask & ~other])
    np.testing.assert_array_equal(result.rgb[~mask & other], 0)
    np.testing.assert_array_equal(result.depth[~missing], synthetic.depth[~missing])
    np.testing.assert_array_equal(result.depth[missing & ~other], 1000)
    np.testing.assert_array_equal(result.depth[missing & other], 0)
    result = add_real_background(
        synthetic, real_frame(1000), np.random.RandomState(0), policy="ycb"
    )
    np.testing.assert_array_equal(result.depth[missing & ~other], 10000)  # in the frame's units


def test_a_real_frame_of_another_size_is_an_error() -> None:
    real = real_frame()
    real = replace(real, depth=real.depth[:, :16], labels=real.labels[:, :16], rgb=real.rgb[:, :16])
    with pytest.raises(UserError, match=r"data_syn/000001 has 24 x 32 .* data/0001/000001 24 x 16"):
        add_real_background(frame(), real, np.random.RandomState(0), policy="ycb")


def test_four_in_ten_linemod_frames_keep_the_rendered_background() -> None:
    synthetic, real = frame(), real_frame()
    rng = np.random.RandomState(0)
    results = [add_real_background(synthetic, real, rng, policy="linemod") for _ in range(200)]
    share = np.mean([np.array_equal(result.rgb, synthetic.rgb) for result in results])
    assert share == pytest.approx(0.4, abs=0.08)
    assert all(result.depth[0, 0] == 1000 for result in results)


def test_one_fused_frame_in_five_is_unchanged() -> None:
    fused = frame("fuse/ape/0.pkl")
    rng = np.random.RandomState(0)
    results = [
        augment_synthetic(fused, lambda _: real_frame(), rng, policy="linemod") for _ in range(600)
    ]
    assert np.mean([result is fused for result in results]) == pytest.approx(0.2, abs=0.05)


def test_colour_jitter_is_reproducible_and_moderate() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    one, same = (colour_jitter(grey, np.random.RandomState(4)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    values = [colour_jitter(grey, np.random.RandomState(s)).mean() for s in range(30)]
    assert 75 < min(values) < 95
    assert 105 < max(values) < 125
