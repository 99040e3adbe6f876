"""The re-identification networks by name, and the classifiers that train them."""

from collections.abc import Callable
from functools import partial

from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.model.video import VideoResNet50

IMAGE_NETWORKS: dict[str, Callable[..., ImageResNet50]] = {"resnet50": ImageResNet50}
VIDEO_NETWORKS: dict[str, Callable[..., VideoResNet50]] = {
    "c2dres50": partial(VideoResNet50, temporal="c2d"),
    "i3dres50": partial(VideoResNet50, temporal="i3d"),
    "ap3dres50": partial(VideoResNet50, temporal="ap3d"),
    "nlres50": partial(VideoResNet50, temporal="c2d", non_local=True),
    "ap3dnlres50": partial(VideoResNet50, temporal="ap3d", non_local=True),
}
NETWORKS: dict[str, Callable[..., ImageResNet50 | VideoResNet50]] = {
    **IMAGE_NETWORKS,
    **VIDEO_NETWORKS,
}
"""Image networks take `pooling`, `gem_power`, `last_stride`, `recompute`; video ones
`last_stride`, `temperature`, `contrastive_attention`, `recompute`."""
