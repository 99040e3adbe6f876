"""Frames of real sensors are found and read as they lie there."""

import numpy as np
import pytest

from ffreid.errors import UserError
from ffreid.pose.own.find import find
from ffreid.pose.own.read import Options, read_frame
from tests.pose.realdata import real_folder

YCB = (1066.778, 1067.487, 312.9869, 241.3109)


def test_linemod_frames_bring_their_camera() -> None:
    frames = find(real_folder("Linemod_preprocessed"))
    assert [frame.name for frame in frames] == ["01/0185", "01/0230"]
    for paths in frames:
        own = read_frame(paths, Options())
        assert own.assumptions == []
        assert own.frame.depth_scale == 1000
        assert own.frame.intrinsics[0, 0] == pytest.approx(572.4114)


def test_frames_of_ten_thousand_units_per_metre_need_them() -> None:
    frames = find(real_folder("rgbd_frames"))
    assert len(frames) == 2
    for paths in frames:
        with pytest.raises(UserError, match="no intrinsics"):
            read_frame(paths, Options())
        with pytest.raises(UserError, match="unit of depth is unknown"):
            read_frame(paths, Options(intrinsics=YCB))
        own = read_frame(paths, Options(intrinsics=YCB, depth_scale=10000))
        metres = own.frame.depth / own.frame.depth_scale
        assert 0.5 < np.median(metres[metres > 0]) < 2
