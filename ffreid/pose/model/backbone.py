"""ImageNet weights for the colour branch."""

from torch import nn

from ffreid.engine.checkpoints.pretrained import imagenet_weights, no_such_network
from ffreid.pose.model.resnet import backbone_name


def load_backbone(net: nn.Module, source: str) -> None:
    """Load ResNet-34's ImageNet weights into FFB6D.

    Args:
        net: the network.
        source: ``imagenet`` (torchvision's, fetched or from its cache), ``random`` (leave as is),
            or the path of torchvision's file.

    Raises:
        UserError: the weights can't be had, or are another network's.
    """
    if source == "random":
        return
    state = imagenet_weights("ResNet34", source)
    own = net.state_dict()
    renamed = {
        name: value for key, value in state.items() if (name := backbone_name(key)) is not None
    }
    places = ("cnn_pre_stages", *(f"cnn_ds_stages.{i}" for i in range(3)))
    expected = [key for key in own if key.startswith(places)]
    # Files older than PyTorch 0.4.1 have no step counters.
    missing = [k for k in expected if k not in renamed and not k.endswith("num_batches_tracked")]
    misshapen = [key for key in renamed if key in own and renamed[key].shape != own[key].shape]
    unknown = [key for key in renamed if key not in own]
    if missing or misshapen or unknown:
        raise no_such_network("ResNet34", source, (missing or misshapen or unknown)[0])
    net.load_state_dict(own | renamed)
