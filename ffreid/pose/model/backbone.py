"""ImageNet weights for the colour branch."""

from torch import nn

from ffreid.engine.checkpoints.pretrained import imagenet_weights, wrong_network_error
from ffreid.pose.model.resnet import backbone_name


def load_backbone(net: nn.Module, source: str) -> None:
    """Load ResNet-34's ImageNet weights into FFB6D.

    `source` is ``imagenet`` (torchvision's, downloaded or from its cache), ``random`` (no change),
    or the path of torchvision's file.
    """
    if source == "random":
        return
    state = imagenet_weights("ResNet34", source)
    current = net.state_dict()
    names = {key: backbone_name(key) for key in state}
    renamed = {name: state[key] for key, name in names.items() if name is not None}
    prefixes = ("cnn_pre_stages", *(f"cnn_ds_stages.{i}" for i in range(3)))
    expected = [key for key in current if key.startswith(prefixes)]
    # Files older than PyTorch 0.4.1 have no step counters.
    missing = [k for k in expected if k not in renamed and not k.endswith("num_batches_tracked")]
    mismatched = [k for k, v in renamed.items() if k in current and v.shape != current[k].shape]
    unknown = [k for k in renamed if k not in current]
    if missing or mismatched or unknown:
        raise wrong_network_error("ResNet34", source, (missing or mismatched or unknown)[0])
    net.load_state_dict(current | renamed)
