"""The reid task: a network, its identity classifier and the clothes classifier of CAL."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from yacs.config import CfgNode

from ffreid.engine import batchnorm
from ffreid.engine.task import Losses, Progress, Task, unwrap
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.losses import CLASSIFICATION, CLOTHES, PAIRWISE, ClothesMemory, cal
from ffreid.reid.losses.pairwise import make_pairs


class NetworkWithClassifier(nn.Module):
    """A network and the classifier of identities that trains it."""

    def __init__(self, model: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.model, self.classifier = model, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, [T,] H, W) to features (B, D) and scores (B, C)."""
        features = self.model(images)
        return features, self.classifier(features)


class ReidTask(Task):
    """CAL (Gu et al., CVPR 2022): the clothes classifier is stepped first, then the network.

    Without `clothes` and `memory` it is the paper's baseline.

    Args:
        cfg: LOSS, and the epochs of TRAIN from which clothes classifier and CAL train.
        clothes: features to cosines of the clothes classes (B, O).
        memory: features remembered for each clothes class, in place of `clothes`.
        clothes_of_identity: (C, O) bool, the clothes classes of each identity.
    """

    clothes_of_identity: Tensor

    def __init__(
        self,
        net: NetworkWithClassifier,
        cfg: CfgNode,
        *,
        clothes: nn.Module | None = None,
        memory: ClothesMemory | None = None,
        clothes_of_identity: Tensor,
    ) -> None:
        super().__init__()
        assert clothes is None or memory is None
        self.net, self.cfg, self.clothes, self.memory = net, cfg, clothes, memory
        self.register_buffer("clothes_of_identity", clothes_of_identity)
        self.optimized = ("net",) if clothes is None else ("clothes", "net")
        self.extra_state = () if memory is None else ("memory",)

    def losses(self, batch: ReidBatch, at: Progress) -> Iterator[tuple[str, Losses]]:
        """Yield the clothes classifier's loss, once it trains, then the network's.

        Losses that do not train are computed without gradient, for the log.
        """
        loss, adversarial = self.cfg.LOSS, at.epoch >= self.cfg.TRAIN.START_EPOCH_ADV
        groups, rest = divmod(len(batch), self.cfg.DATA.TRAIN_BATCH)
        groups = 1 if rest else groups
        batchnorm.regroup(self.net, groups)
        features, scores = self.net(batch.images)
        identity, ids = CLASSIFICATION[loss.CLA_LOSS], batch.identities
        train = {"classification": identity(scores, ids, scale=loss.CLA_S, margin=loss.CLA_M)}
        with nullcontext() if loss.PAIR_LOSS_WEIGHT else torch.no_grad():
            pairs = make_pairs(features, ids, gradient=loss.PAIR_GRADIENT, groups=groups)
            pair = PAIRWISE[loss.PAIR_LOSS](pairs, scale=loss.PAIR_S, margin=loss.PAIR_M)
        if loss.PAIR_LOSS_WEIGHT:
            train["weighted_pair"] = loss.PAIR_LOSS_WEIGHT * pair
        log = {"accuracy": _accuracy(scores, ids), "pair": pair.detach()}
        if self.clothes is not None:
            trains = at.epoch >= self.cfg.TRAIN.START_EPOCH_CC
            # DistributedDataParallel must not run forward without running backward.
            head = self.clothes if trains else unwrap(self.clothes)
            with nullcontext() if trains else torch.no_grad():
                clothes_loss = CLOTHES[loss.CLOTHES_CLA_LOSS]
                clothes = clothes_loss(head(features.detach()), batch.clothes, scale=loss.CLA_S)
            if trains:
                yield "clothes", Losses(train={"clothes": clothes})
            else:
                log["clothes"] = clothes
            cosines, against = self._adversarial_loss(self.clothes, features, batch, at)
            log["clothes_accuracy"] = _accuracy(cosines, batch.clothes)
            (train if adversarial else log)["adversarial"] = against
        if self.memory is not None:
            # The memory stays empty until the adversarial loss trains.
            if adversarial:
                allowed = self.clothes_of_identity[ids]
                train["adversarial"] = self.memory(features, batch.clothes, allowed)
            else:
                log["adversarial"] = features.new_zeros(())
        broken = torch.tensor(float(len(batch.broken)), device=features.device)
        yield "net", Losses(train, log, count={"broken": broken})

    def _adversarial_loss(
        self, classifier: nn.Module, features: Tensor, batch: ReidBatch, at: Progress
    ) -> tuple[Tensor, Tensor]:
        """Cosines and CAL of the updated clothes classifier, whose weights are constants here."""
        loss, head = self.cfg.LOSS, unwrap(classifier)
        fixed: dict[str, Any] = {name: p.detach() for name, p in head.named_parameters()}
        with nullcontext() if at.epoch >= self.cfg.TRAIN.START_EPOCH_ADV else torch.no_grad():
            cosines = functional_call(head, fixed, (features,))
            allowed = self.clothes_of_identity[batch.identities]
            options = {"scale": loss.CLA_S, "epsilon": loss.EPSILON}
            return cosines, cal(cosines, batch.clothes, allowed, **options)


def _accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == labels).double().mean()
