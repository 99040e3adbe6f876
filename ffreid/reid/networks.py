"""The network of a configuration."""

from torch import nn
from yacs.config import CfgNode

from ffreid.reid.model import IMAGE_NETWORKS, NETWORKS


def build_network(cfg: CfgNode) -> nn.Module:
    """Build the network MODEL.NAME with random weights."""
    model, ap3d = cfg.MODEL, cfg.MODEL.AP3D
    if model.NAME in IMAGE_NETWORKS:
        options = {"pooling": model.POOLING.NAME, "gem_power": model.POOLING.P}
    else:
        options = {
            "temperature": ap3d.TEMPERATURE,
            "contrastive_attention": ap3d.CONTRACTIVE_ATT,
        }
    recompute = cfg.TRAIN.ACTIVATION_CHECKPOINTING
    return NETWORKS[model.NAME](last_stride=model.RES4_STRIDE, recompute=recompute, **options)
