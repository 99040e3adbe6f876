"""The re-identification networks by name, and the classifiers that train them."""

from collections.abc import Callable
from functools import partial

from torch import nn
from yacs.config import CfgNode

from ffreid.reid.defaults import IMAGE_NETWORKS, VIDEO_NETWORKS
from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.model.video import VideoResNet50

NETWORKS: dict[str, Callable[..., ImageResNet50 | VideoResNet50]] = {
    "resnet50": ImageResNet50,
    **{name: partial(VideoResNet50, **options) for name, options in VIDEO_NETWORKS.items()},
}
"""Image networks take `pooling`, `gem_power`, `last_stride`, `recompute`; video networks
`last_stride`, `temperature`, `contrastive_attention`, `recompute`."""


def build_network(cfg: CfgNode) -> nn.Module:
    """Build the network MODEL.NAME with random weights."""
    model, ap3d = cfg.MODEL, cfg.MODEL.AP3D
    if model.NAME in IMAGE_NETWORKS:
        options = {"pooling": model.POOLING.NAME, "gem_power": model.POOLING.P}
    else:
        attention = ap3d.CONTRACTIVE_ATT
        options = {"temperature": ap3d.TEMPERATURE, "contrastive_attention": attention}
    recompute = cfg.TRAIN.ACTIVATION_CHECKPOINTING
    return NETWORKS[model.NAME](last_stride=model.RES4_STRIDE, recompute=recompute, **options)
