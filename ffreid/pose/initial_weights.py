"""Initial weights of training: ImageNet's, another run's or another program's, or random."""

from torch import nn

from ffreid.engine.checkpoints.pretrained import load_except_heads, log_initial, read_parts
from ffreid.pose import convert
from ffreid.pose.model.resnet import load_backbone

HEADS = ("rgbd_seg_layer.3.", "kp_ofst_layer.3.")
"""Last layers of the heads, whose sizes are the numbers of classes and of keypoints."""


def load_initial_weights(net: nn.Module, source: str) -> None:
    """Load MODEL.BACKBONE into FFB6D.

    Args:
        net: the network.
        source: ``imagenet``, ``random``, torchvision's file, or any FFB6D checkpoint, of which
            heads of other sizes are not loaded.

    Raises:
        UserError: the file does not fit the network.
    """
    parts = read_parts(source, convert.identify_network, convert.convert_any)
    if not parts:
        load_backbone(net, source)
        return
    log_initial(source, *load_except_heads(net, parts["net"], source, HEADS))
