"""Features for retrieval: means over clips, unit length, and their check."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ffreid.errors import UserError


def unit(features: Tensor) -> Tensor:
    """Normalise each row of `features` (N, D) to length 1; zeros stay."""
    return functional.normalize(features, dim=1)


def average_clips(clips: Tensor, spans: Tensor) -> Tensor:
    """Average clips' features (N, D) over spans [start, end) (V, 2), then normalise: (V, D)."""
    means = [clips[start:end].mean(dim=0) for start, end in spans.tolist()]
    if not means:
        return clips.new_zeros(0, clips.shape[1])
    return unit(torch.stack(means))


def check_features(features: Tensor, name: str, paths: Sequence[str] = ()) -> None:
    """Refuse features (N, D) with NaN or infinity, and zeros, which are equally far from all.

    `name`, e.g. ``gallery``, and the items' `paths` are for the message.
    """

    def first(rows: Tensor) -> str:
        row = int(rows[0])
        return f"the first is {paths[row]}" if paths else f"the first in row {row}"

    # A finite sum proves a finite row; a few sums may overflow, so check those rows.
    doubtful = (~torch.isfinite(features.sum(dim=1))).nonzero().view(-1)
    broken = doubtful[~torch.isfinite(features[doubtful]).all(dim=1)]
    if len(broken):
        raise UserError(
            f"{len(broken)} of {len(features)} {name} features are NaN or infinite, "
            f"{first(broken)}",
            "use a checkpoint that has not diverged; against divergence, train with a lower "
            "TRAIN.OPTIMIZER.LR or without --amp",
        )
    zero = (~features.any(dim=1)).nonzero().view(-1)
    if len(zero):
        raise UserError(
            f"{len(zero)} of {len(features)} {name} features are all zero, {first(zero)}",
            "use a checkpoint whose network tells images apart",
        )
