"""ImageNet weights of torchvision's ResNets, from a file or fetched."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ffreid.engine.checkpoints import io
from ffreid.errors import UserError, flat

FILES = {
    "ResNet34": "resnet34-b627a593.pth (or the older 333f7ec4)",
    "ResNet50": "resnet50-0676ba61.pth (or the older 19c8e357)",
}
"""torchvision's files of version 1 by network."""


def imagenet_weights(network: str, source: str) -> dict[str, Tensor]:
    """Read a ResNet's ImageNet weights (version 1) under torchvision's names.

    Args:
        network: of `FILES`.
        source: ``imagenet`` (torchvision's, fetched or from its cache), or a file's path.

    Raises:
        UserError: the weights can't be had.
    """
    if source != "imagenet":
        if not Path(source).is_file():
            raise UserError(f"MODEL.BACKBONE: no file {source}", _hint(network))
        return io.load(Path(source))
    from torchvision import models

    try:
        state: dict[str, Tensor] = getattr(
            models, f"{network}_Weights"
        ).IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        # urllib, socket, hash and file errors alike: the weights can't be had.
        reason = flat(str(error))
        if "weights_only" in reason:  # torch's advice to switch safety off
            reason = "the file in torchvision's cache is damaged or holds more than weights"
        raise UserError(
            f"{_name(network)}'s ImageNet weights could not be fetched: {reason}",
            _hint(network),
        ) from error
    return state


def no_such_network(network: str, source: str, key: str) -> UserError:
    """Say that `source` holds another network's weights, as its entry `key` shows."""
    return UserError(
        f"MODEL.BACKBONE {source} is no {_name(network)} (look at {key})", _hint(network)
    )


def _name(network: str) -> str:
    return network.replace("ResNet", "ResNet-")


def _hint(network: str) -> str:
    return (
        f"put torchvision's {FILES[network]} anywhere and set MODEL.BACKBONE to its path, "
        "or train from scratch with MODEL.BACKBONE random"
    )


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
