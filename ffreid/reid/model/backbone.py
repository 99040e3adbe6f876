"""ImageNet weights for the pictures' network and, inflated, for the clips' networks."""

from collections.abc import Mapping

from torch import Tensor, nn

from ffreid.engine.checkpoints.pretrained import imagenet_weights, wrong_network_error
from ffreid.reid.model.resnet import BLOCKS, Bottleneck

STEMS = {"base.0": "conv1", "base.1": "bn1", "conv1": "conv1", "bn1": "bn1"}
WRAPPERS = (".conv3d.", ".spatial_conv3d.")


def load_backbone(net: nn.Module, source: str) -> None:
    """Load ResNet-50's ImageNet weights (version 1) into a network of this room.

    A 2D kernel becomes the middle slice of a 3D one, whose other slices become zero (I3D). What
    ResNet-50 has not (temporal, non-local, neck) stays as it is.

    Args:
        net: the network.
        source: ``imagenet`` (torchvision's, fetched or from its cache), ``random`` (leave as is),
            or the path of torchvision's file.

    Raises:
        UserError: the weights can't be had, or are another network's.
    """
    if source == "random":
        return
    loaded, problems = _fitted(net, imagenet_weights("ResNet50", source))
    if problems:
        raise wrong_network_error("ResNet50", source, problems[0])
    net.load_state_dict(net.state_dict() | loaded)


def backbone_names(net: nn.Module) -> dict[str, str]:
    """Map those entries of `net`'s state dict that come from ResNet-50 to torchvision's names."""
    own = [name for name, module in net.named_modules() if isinstance(module, Bottleneck)]
    theirs = [
        f"layer{stage}.{block}" for stage, count in enumerate(BLOCKS, 1) for block in range(count)
    ]
    places = STEMS | dict(zip(own, theirs, strict=True))
    names = {}
    for key in net.state_dict():
        plain = key
        for wrapper in WRAPPERS:
            plain = plain.replace(wrapper, ".")
        place = next((place for place in places if key.startswith(f"{place}.")), None)
        if place is not None and ".APM." not in key and ".temporal_conv3d." not in key:
            names[key] = places[place] + plain.removeprefix(place)
    return names


def _fitted(net: nn.Module, state: Mapping[str, object]) -> tuple[dict[str, Tensor], list[str]]:
    """Give the entries for `net` in torchvision's `state`, and the keys that do not fit."""
    own, places = net.state_dict(), backbone_names(net)
    known, loaded = set(places.values()), {}
    problems = [key for key in state if not key.startswith("fc.") and key not in known]
    for name, key in places.items():
        value = _inflated(state.get(key), own[name])
        if value is not None:
            loaded[name] = value
        # Files older than PyTorch 0.4.1 have no step counters.
        elif key in state or not key.endswith("num_batches_tracked"):
            problems.append(key)
    return loaded, problems


def _inflated(value: object, own: Tensor) -> Tensor | None:
    """Give `value` the shape of `own`, or None where it can't have it."""
    if isinstance(value, Tensor) and own.dim() == 5 and value.dim() == 4:
        slices = own.new_zeros(own.shape)
        if value.shape == slices[:, :, 0].shape:
            slices[:, :, own.shape[2] // 2] = value
            return slices
    return value if isinstance(value, Tensor) and value.shape == own.shape else None
