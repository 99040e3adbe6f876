"""Published results of FFB6D, compared only with results of the same frames and training data."""

from collections.abc import Mapping
from typing import Any

from ffreid.pose.resources import resource


def comparable_results(
    dataset: str, frames: int, trained_on: str | None = None
) -> tuple[Mapping[str, Any] | None, list[str]]:
    """Published results of `dataset` that an evaluation can be compared with, and lines on them.

    Args:
        dataset: name.
        frames: how many were evaluated.
        trained_on: the dataset that trained the weights, empty if unknown; None for poses of
            another program.
    """
    published = resource("published").get(dataset)
    hidden = ", so published results are not shown" * (published is not None)
    if trained_on and trained_on != dataset:
        return None, [f"note: the weights were trained on {trained_on}, not on {dataset}{hidden}"]
    if published is None:
        return None, []
    if trained_on == "":
        return None, [f"note: it is not known which dataset trained the weights{hidden}"]
    least, most = published["frames"]
    if not least <= frames <= most:
        expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        told = f"published results are of {expected} frames, not {frames:,}, and are not shown"
        return None, [f"note: {told}"]
    source, status = published["source"], published["status"]
    return published, [f"published: {published['method']}: {source} ({status})"]
