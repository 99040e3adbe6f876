"""torchvision's ResNets, known by their keys."""

from collections.abc import Mapping

from torch import Tensor

DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "ResNet-18",
    ((3, 4, 6, 3), False): "ResNet-34",
    ((3, 4, 6, 3), True): "ResNet-50",
    ((3, 4, 23, 3), True): "ResNet-101",
    ((3, 8, 36, 3), True): "ResNet-152",
}
"""Networks by their blocks a stage, and whether those are bottlenecks."""
STEM = (64, 3, 7, 7)


def name_of(state: Mapping[str, Tensor]) -> str:
    """Name the ResNet of torchvision whose keys `state` has; empty where it is none."""
    heads = {key.partition(".")[0] for key in state}
    stages = [f"layer{stage}" for stage in range(1, 5)]
    if not {"conv1", "bn1", *stages} <= heads <= {"conv1", "bn1", "fc", *stages}:
        return ""
    stem, widths = state.get("conv1.weight"), state.get("layer1.0.conv2.weight")
    if stem is None or tuple(stem.shape) != STEM:
        return ""
    if widths is None or tuple(widths.shape) != (64, 64, 3, 3):  # wide, or in groups
        return ""
    blocks = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"{stage}.")}) for stage in stages
    )
    return DEPTHS.get((blocks, "layer1.0.conv3.weight" in state), "")
