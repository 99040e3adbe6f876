"""Published results, compared only with results of the same frames and training data."""

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
    if trained_on and trained_on not in (published or {}).get("trained_on", [dataset]):
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
    methods = {published["method"]: published, **published.get("also", {})}
    return published, [
        f"published: {method}: {entry['source']} ({entry['status']})"
        for method, entry in methods.items()
    ]


def published_recalls(
    dataset: str, targets: str, instances: int
) -> tuple[Mapping[str, float], list[str]]:
    """Published average recalls (percent) by method, and lines on them.

    Args:
        dataset: name.
        targets: where the list of targets comes from.
        instances: how many instances it has.
    """
    published = resource("published")["bop_recalls"].get(dataset)
    if published is None:
        return {}, []
    expected, found = published["instances"], published["AR"]
    if targets != "test_targets_bop19.json" or instances != expected:
        told = f"published recalls are of the {expected:,} instances of test_targets_bop19.json"
        return {}, [f"note: {told}, not of {instances:,}, and are not shown"]
    return found, [f"published: {', '.join(found)}: {published['source']} ({published['status']})"]
