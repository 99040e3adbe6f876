"""FFB6D's losses: focal segmentation loss and masked L1 of the offsets.

In float32 at least: sums over all points overflow or stall in half precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ffreid.engine.precision import in_float32
from ffreid.pose.data.batch import Targets
from ffreid.pose.model.ffb6d import Outputs


@in_float32
def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of -(1 - p)^gamma log p of the true class (Lin et al., ICCV 2017, eq. 4, no alpha).

    The original detaches p in the modulating factor, so the gradient is that of a weighted cross
    entropy; kept.

    `logits` are (B, C, N), `labels` (B, N) int64, background (0) included.
    """
    rows = logits.transpose(1, 2).reshape(-1, logits.shape[1])
    log_p = F.log_softmax(rows, dim=1).gather(1, labels.reshape(-1, 1)).squeeze(1)
    weight = (1 - log_p.detach().exp()).pow(gamma)
    return -(weight * log_p).mean()


@in_float32
def offset_loss(predicted: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Mean L1 length of the offsets' errors over the foreground points (FFB6D, section 3.3).

    Args:
        predicted: (B, K, N, 3) metres.
        target: (B, N, K, 3) metres.
        labels: (B, N), 0 is background.

    Returns:
        (B, K); 0 where a sample has no foreground.
    """
    foreground = (labels > 0).to(predicted.dtype)
    count = foreground.sum(dim=1, keepdim=True) + 1e-3
    error = (predicted - target.transpose(1, 2)).abs().sum(dim=3)
    return (error * foreground.unsqueeze(1)).sum(dim=2) / count


def pose_losses(outputs: Outputs, targets: Targets, offset_samples: float) -> dict[str, Tensor]:
    """The three weighted terms of the training loss: 2 x focal, keypoints, centre.

    The authors sum the offset terms over the 3 samples of a process and average the gradient over
    processes; the focal term is a mean. So the offset terms here are means over samples times
    `offset_samples` (3), which gives the authors' gradient for any batch and any split of it.
    """
    keypoints = offset_loss(outputs.keypoint_offsets, targets.keypoint_offsets, targets.labels)
    centre = offset_loss(
        outputs.centre_offsets, targets.centre_offsets.unsqueeze(2), targets.labels
    )
    return {
        "segmentation": 2.0 * focal_loss(outputs.segmentation, targets.labels),
        "keypoints": offset_samples * keypoints.sum(dim=1).mean(),
        "centre": offset_samples * centre.sum(dim=1).mean(),
    }


def segmentation_accuracy(outputs: Outputs, targets: Targets) -> Tensor:
    """Fraction of points whose most likely class is correct."""
    return (outputs.segmentation.argmax(dim=1) == targets.labels).to(torch.float32).mean()
