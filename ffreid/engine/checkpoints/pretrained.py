"""Initial weights: of torchvision's ResNets, from a file or downloaded, or of another run."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ffreid import report
from ffreid.engine.checkpoints import io
from ffreid.engine.checkpoints.contents import CheckpointContents, State, identify, is_ffreid
from ffreid.engine.distributed import group
from ffreid.errors import UserError, flat

FILES = {
    "ResNet34": "resnet34-b627a593.pth (or the older 333f7ec4)",
    "ResNet50": "resnet50-0676ba61.pth (or the older 19c8e357)",
}
"""torchvision's files of version 1 by network."""
DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "ResNet-18",
    ((3, 4, 6, 3), False): "ResNet-34",
    ((3, 4, 6, 3), True): "ResNet-50",
    ((3, 4, 23, 3), True): "ResNet-101",
    ((3, 8, 36, 3), True): "ResNet-152",
}
"""Networks by their blocks per stage, and whether these are bottlenecks."""


def imagenet_weights(network: str, source: str) -> dict[str, Tensor]:
    """Load ImageNet weights (version 1) of a network of `FILES` under torchvision's names.

    `source` is ``imagenet`` (torchvision's, downloaded or cached), or the path of a file.
    """
    if source != "imagenet":
        if not os.path.lexists(source):
            raise _error(network, f"MODEL.BACKBONE: no file {source}")
        return io.load(Path(source))
    from torchvision import models

    try:
        weights = getattr(models, f"{network}_Weights").IMAGENET1K_V1
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # of urllib, socket, the hash or the file
        reason = flat(str(error))
        if "weights_only" in reason:  # torch's advice to switch safety off
            reason = "the file in torchvision's cache is damaged or contains more than weights"
        name = network.replace("ResNet", "ResNet-")
        message = f"{name}'s ImageNet weights could not be downloaded: {reason}"
        raise _error(network, message) from error
    return state


def read_parts(
    source: str,
    identify_network: Callable[[CheckpointContents], object],
    convert_any: Callable[[Mapping[str, Any], Path], tuple[Mapping[str, Any], str]],
) -> Mapping[str, State]:
    """Return the parts of a checkpoint of another run or program, {} for any other `source`.

    The functions are those of the task's module ``convert``.
    """
    path = Path(source)
    raw = io.load(path) if path.is_file() else {}
    if not is_ffreid(raw) and identify_network(identify(raw)) is None:
        return {}
    parts: Mapping[str, State] = convert_any(raw, path)[0]["parts"]
    return parts


def load_except_heads(
    module: nn.Module, state: Mapping[str, Tensor], origin: str, heads: tuple[str, ...]
) -> tuple[int, list[str]]:
    """Load another run's `state`, except `heads` (prefixes of keys) of other sizes.

    Returns:
        Number of tensors loaded, and those of heads that keep their values, with both shapes.

    Raises:
        UserError: something else does not match.
    """
    current = module.state_dict()
    fits = {
        key: value
        for key, value in state.items()
        if not key.startswith(heads) or (key in current and current[key].shape == value.shape)
    }
    new = {key: value for key, value in current.items() if key.startswith(heads)}
    new = {key: value for key, value in new.items() if key not in fits}
    io.load_weights(module, {**fits, **new}, origin, "use a checkpoint of the same network")
    shapes = {key: tuple(state[key].shape) if key in state else "none" for key in new}
    return len(fits), [f"{key} {tuple(new[key].shape)}, there {shapes[key]}" for key in new]


def log_initial(source: str, loaded: int, new: Sequence[str]) -> None:
    """Log what was taken from another run, and which tensors are `new`."""
    rest = f"; new: {'; '.join(new)}" if new else ""
    if group.rank() == 0:
        report.log(f"note: {loaded} tensors are initialized from {source}{rest}")


def wrong_network_error(network: str, source: str, key: str) -> UserError:
    """Return the error for a `source` with another network's weights, as its entry `key` shows."""
    name = network.replace("ResNet", "ResNet-")
    return _error(
        network, f"{source} (MODEL.BACKBONE, --init) is not a {name}: see its entry {key}"
    )


def _error(network: str, message: str) -> UserError:
    return UserError(
        message,
        f"download torchvision's {FILES[network]} and set MODEL.BACKBONE to its path, start from "
        "another run with --init FILE, or train from scratch with MODEL.BACKBONE random",
    )


def name_of_resnet(state: Mapping[str, Tensor]) -> str:
    """Name the ResNet of torchvision that has the keys of `state`; empty if there is none."""
    heads = {key.partition(".")[0] for key in state}
    stages = [f"layer{stage}" for stage in range(1, 5)]
    # Wide and grouped networks have another second convolution.
    first = [state.get(f"{key}.weight") for key in ("conv1", "layer1.0.conv2")]
    shapes = [() if weight is None else tuple(weight.shape) for weight in first]
    if heads - {"fc"} != {"conv1", "bn1", *stages} or shapes != [(64, 3, 7, 7), (64, 64, 3, 3)]:
        return ""
    blocks = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"{stage}.")}) for stage in stages
    )
    return DEPTHS.get((blocks, "layer1.0.conv3.weight" in state), "")
