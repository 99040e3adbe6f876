"""ImageNet weights for the image network and, inflated, for the clip networks."""

from collections.abc import Mapping

from torch import Tensor, nn

from ffreid.engine.checkpoints.pretrained import imagenet_weights, wrong_network_error
from ffreid.reid.model.resnet import BLOCKS, Bottleneck

STEMS = {"base.0": "conv1", "base.1": "bn1", "conv1": "conv1", "bn1": "bn1"}
WRAPPERS = (".conv3d.", ".spatial_conv3d.")


def load_imagenet(net: nn.Module, source: str) -> None:
    """Load ResNet-50's ImageNet weights (version 1) into a re-identification network.

    A 2D kernel becomes the middle slice of a 3D one, whose other slices become zero (I3D). Weights
    that ResNet-50 does not have (temporal, non-local, neck) stay. `source` is ``imagenet``
    (torchvision's, downloaded or cached), ``random`` (no change), or torchvision's file.
    """
    if source == "random":
        return
    loaded, problems = _select(net, imagenet_weights("ResNet50", source))
    if problems:
        raise wrong_network_error("ResNet50", source, problems[0])
    net.load_state_dict(net.state_dict() | loaded)


def backbone_names(net: nn.Module) -> dict[str, str]:
    """Map the entries of `net`'s state dict that ResNet-50 has to torchvision's names."""
    blocks = [name for name, module in net.named_modules() if isinstance(module, Bottleneck)]
    torchvision_blocks = [
        f"layer{stage}.{block}" for stage, count in enumerate(BLOCKS, 1) for block in range(count)
    ]
    prefixes = STEMS | dict(zip(blocks, torchvision_blocks, strict=True))
    names = {}
    for key in net.state_dict():
        unwrapped = key
        for wrapper in WRAPPERS:
            unwrapped = unwrapped.replace(wrapper, ".")
        prefix = next((prefix for prefix in prefixes if key.startswith(f"{prefix}.")), None)
        if prefix is not None and ".APM." not in key and ".temporal_conv3d." not in key:
            names[key] = prefixes[prefix] + unwrapped.removeprefix(prefix)
    return names


def _select(net: nn.Module, state: Mapping[str, object]) -> tuple[dict[str, Tensor], list[str]]:
    """The entries for `net` in torchvision's `state`, and the keys that do not fit."""
    current, names = net.state_dict(), backbone_names(net)
    known, loaded = set(names.values()), {}
    problems = [key for key in state if not key.startswith("fc.") and key not in known]
    for name, key in names.items():
        value = _inflate(state.get(key), current[name])
        if value is not None:
            loaded[name] = value
        # Files older than PyTorch 0.4.1 have no step counters.
        elif key in state or not key.endswith("num_batches_tracked"):
            problems.append(key)
    return loaded, problems


def _inflate(value: object, target: Tensor) -> Tensor | None:
    """Bring `value` to the shape of `target`; None if that is impossible."""
    if isinstance(value, Tensor) and target.dim() == 5 and value.dim() == 4:
        slices = target.new_zeros(target.shape)
        if value.shape == slices[:, :, 0].shape:
            slices[:, :, target.shape[2] // 2] = value
            return slices
    return value if isinstance(value, Tensor) and value.shape == target.shape else None
