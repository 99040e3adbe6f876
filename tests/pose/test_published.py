"""Published results of pose estimation: what they stand beside."""

import pytest

from ffreid.pose.published import comparable_results


@pytest.mark.parametrize(
    ("dataset", "frames", "trained_on", "is_shown", "line"),
    [
        ("ycb", 2949, "ycb", True, "published: FFB6D: "),
        ("ycb", 2949, None, True, "published: FFB6D: "),  # poses of another program
        ("ycb", 20, "ycb", False, "note: published results are of 2,949 frames, not 20, and"),
        ("ycb", 20738, None, False, "note: published results are of 2,949 frames, not 20,738,"),
        ("ycb", 2949, "mine", False, "note: the weights were trained on mine, not on ycb, so"),
        ("ycb", 2949, "", False, "note: it is not known which dataset trained the weights, so"),
        ("linemod", 1050, "linemod", True, "published: FFB6D: "),
        ("linemod", 20, "linemod", False, "note: published results are of 900 to"),
        ("toy-pose", 50, "toy-pose", False, ""),
        ("toy-pose", 50, "", False, ""),
        ("toy-pose", 50, "ycb", False, "note: the weights were trained on ycb, not on toy-pose"),
    ],
)
def test_published_results_stand_only_beside_what_is_comparable(
    dataset: str, frames: int, trained_on: str | None, is_shown: bool, line: str
) -> None:
    found, lines = comparable_results(dataset, frames, trained_on)
    assert (found is not None) == is_shown
    assert len(lines) == bool(line)
    assert all(told.startswith(line) for told in lines)
