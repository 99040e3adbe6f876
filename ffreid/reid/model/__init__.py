"""The re-identification networks by name, and the classifiers that train them."""

from collections.abc import Callable
from functools import partial

from ffreid.reid import defaults
from ffreid.reid.model.image import ImageResNet50
from ffreid.reid.model.video import VideoResNet50

IMAGE_NETWORKS: dict[str, Callable[..., ImageResNet50]] = {"resnet50": ImageResNet50}
VIDEO_NETWORKS: dict[str, Callable[..., VideoResNet50]] = {
    name: partial(VideoResNet50, **options) for name, options in defaults.VIDEO_NETWORKS.items()
}
NETWORKS: dict[str, Callable[..., ImageResNet50 | VideoResNet50]] = {
    **IMAGE_NETWORKS,
    **VIDEO_NETWORKS,
}
"""Image networks take `pooling`, `gem_power`, `last_stride`, `recompute`; video networks
`last_stride`, `temperature`, `contrastive_attention`, `recompute`."""
