"""CAL with cosine classifiers on any network, for tests of training steps."""

import torch
from torch import Tensor, nn

from ffreid.recipes import compose
from ffreid.reid.losses import ClothesMemory
from ffreid.reid.model.classifier import NormalizedClassifier
from ffreid.reid.task import NetworkWithClassifier, ReidTask

IDENTITIES, OUTFITS = 4, 8
SETTINGS = (
    "LOSS.CLA_LOSS cosface LOSS.CLA_M 0.1 LOSS.PAIR_LOSS_WEIGHT 1.0 "
    "TRAIN.START_EPOCH_CC 0 TRAIN.START_EPOCH_ADV 0 "
)


def cal_task(
    net: nn.Module, features: int, *, memory: bool = False, settings: str = ""
) -> ReidTask:
    """The task of `net`, whose features have this length, with all losses from the first epoch."""
    torch.manual_seed(1)
    cfg = compose("ltcc", pairs=(SETTINGS + settings).split())
    return ReidTask(
        NetworkWithClassifier(net, NormalizedClassifier(features, IDENTITIES)),
        cfg,
        clothes=None if memory else NormalizedClassifier(features, OUTFITS),
        memory=ClothesMemory(OUTFITS, features, momentum=0.2) if memory else None,
        clothes_of_identity=torch.arange(OUTFITS) // 2 == torch.arange(IDENTITIES)[:, None],
    )


def labels(size: int) -> tuple[Tensor, Tensor]:
    """Identities and clothes of a batch."""
    clothes = torch.arange(size) // 2 % OUTFITS
    return clothes // 2, clothes
