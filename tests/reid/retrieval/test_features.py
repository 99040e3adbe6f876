"""Features of tracklets, at unit length, and their check."""

import math

import pytest
import torch

from ffreid.errors import UserError
from ffreid.reid.retrieval.features import average_clips, check_features


def test_clips_are_averaged_before_normalisation() -> None:
    clips = torch.tensor([[6.0, 0.0], [0.0, 8.0], [0.0, 5.0]])
    result = average_clips(clips, torch.tensor([[0, 2], [2, 3]]))
    torch.testing.assert_close(result, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_an_error_with_number_and_row(value: float) -> None:
    features = torch.ones(5, 3)
    features[3, 1] = features[4, 0] = value
    with pytest.raises(UserError, match=r"2 of 5 gallery .* row 3"):
        check_features(features, "gallery")


def test_large_finite_features_are_accepted() -> None:
    check_features(torch.full((2, 3), 3e38), "query")
    check_features(torch.ones(0, 3), "gallery")


def test_zero_features_are_an_error_with_number_and_first_file() -> None:
    features = torch.ones(4, 3, dtype=torch.float16)
    features[1] = features[3] = 0
    with pytest.raises(UserError, match=r"2 of 4 query .* all zero, the first is b\.png"):
        check_features(features, "query", ["a.png", "b.png", "c.png", "d.png"])
