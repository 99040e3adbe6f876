"""Features for retrieval: flipped pictures summed, clips averaged, unit length."""

import torch
from torch import Tensor
from torch.nn import functional

from ffreid.errors import UserError


def unit(features: Tensor) -> Tensor:
    """Scale each row of `features` (N, D) to length 1; a row of zeros stays."""
    return functional.normalize(features, dim=1)


def flip_and_sum(features: Tensor, flipped: Tensor) -> Tensor:
    """Give the unit features (N, D) of pictures from those of both views.

    The sum is taken before the length is set to 1, as Simple-CCReID does.

    Args:
        features: (N, D) of the pictures.
        flipped: (N, D) of the pictures mirrored left to right.
    """
    return unit(features + flipped)


def average_clips(clips: Tensor, spans: Tensor) -> Tensor:
    """Give the unit features (V, D) of videos: the mean over each one's clips, then length 1.

    Args:
        clips: (N, D), not scaled, the clips of a video side by side.
        spans: (V, 2) int64, each video's first clip and the one behind its last.

    Raises:
        UserError: a video has no clips.
    """
    lengths = spans[:, 1] - spans[:, 0]
    if bool((lengths <= 0).any()):
        empty = int((lengths <= 0).nonzero()[0])
        raise UserError(
            f"video {empty} of {len(spans)} has no clips",
            "take the empty tracklet out of the list, or restore its frames",
        )
    means = [clips[first:behind].mean(dim=0) for first, behind in spans.tolist()]
    if not means:
        return clips.new_zeros(0, clips.shape[1])
    return unit(torch.stack(means))


def check_finite(features: Tensor, name: str) -> None:
    """Refuse features (N, D) that hold NaN or infinity.

    Args:
        name: what they are of, for the message, e.g. ``gallery``.

    Raises:
        UserError: some do; says how many and which comes first.
    """
    # A row's sum is finite only if all of it is; a few sums may overflow, so look again at those.
    doubtful = (~torch.isfinite(features.sum(dim=1))).nonzero().view(-1)
    broken = doubtful[~torch.isfinite(features[doubtful]).all(dim=1)]
    if len(broken):
        raise UserError(
            f"{len(broken)} of {len(features)} {name} features hold NaN or infinity,"
            f" the first is row {int(broken[0])}",
            "evaluate a checkpoint that has not diverged; against diverging, train with a lower"
            " TRAIN.OPTIMIZER.LR or without --amp",
        )
