"""The network of a configuration."""

from torch import nn
from yacs.config import CfgNode

from ffreid.reid.model import IMAGE_NETWORKS, NETWORKS


def build_network(cfg: CfgNode) -> nn.Module:
    """Build the network MODEL.NAME with random weights."""
    model, recompute = cfg.MODEL, cfg.TRAIN.ACTIVATION_CHECKPOINTING
    if model.NAME in IMAGE_NETWORKS:
        return NETWORKS[model.NAME](
            pooling=model.POOLING.NAME,
            gem_power=model.POOLING.P,
            last_stride=model.RES4_STRIDE,
            recompute=recompute,
        )
    return NETWORKS[model.NAME](
        last_stride=model.RES4_STRIDE,
        temperature=model.AP3D.TEMPERATURE,
        contrastive_attention=model.AP3D.CONTRACTIVE_ATT,
        recompute=recompute,
    )
