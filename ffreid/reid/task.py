"""The reid task: a network, its identity classifier and the clothes classifier of CAL."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ffreid.engine import batchnorm
from ffreid.engine.distributed.group import Gradient
from ffreid.engine.task import Losses, Progress, Task, unwrap
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.losses import CLASSIFICATION, CLOTHES, PAIRWISE, ClothesMemory, cal


class NetworkWithClassifier(nn.Module):
    """A network and the classifier of identities that trains it."""

    def __init__(self, model: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.model, self.classifier = model, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, [T,] H, W) to features (B, D) and scores (B, C)."""
        features = self.model(images)
        return features, self.classifier(features)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Losses, their weights and the epochs from which they train.

    Attributes:
        identity: name in `CLASSIFICATION`, with `scale` of cosines and `margin`.
        clothes: name in `CLOTHES`, with `scale` of cosines.
        pair: name in `PAIRWISE`.
        pair_weight: with 0 the pairwise loss is logged only.
        pair_gradient: see `engine.distributed.group.gather_with_grad`.
        epsilon: of CAL.
        clothes_from: epoch from which the clothes classifier trains.
        adversarial_from: epoch from which CAL trains the network.
        group: samples a process of the reference implementation; 0 is the batch.
    """

    identity: str
    clothes: str
    pair: str
    pair_weight: float
    pair_gradient: Gradient
    scale: float
    margin: float
    pair_scale: float
    pair_margin: float
    epsilon: float
    clothes_from: int
    adversarial_from: int
    group: int = 0


class ReidTask(Task):
    """CAL (Gu et al., CVPR 2022): the clothes classifier is stepped first, then the network.

    Without `clothes` and `memory` it is the paper's baseline.

    Args:
        net: network and identity classifier.
        clothes: features to cosines of the clothes classes (B, O).
        memory: features remembered for each clothes class, in place of `clothes`.
        clothes_of_identity: (C, O) bool, the clothes classes of each identity.
        settings: of the losses.
    """

    clothes_of_identity: Tensor

    def __init__(
        self,
        net: NetworkWithClassifier,
        *,
        clothes: nn.Module | None = None,
        memory: ClothesMemory | None = None,
        clothes_of_identity: Tensor,
        settings: Settings,
    ) -> None:
        super().__init__()
        assert clothes is None or memory is None
        self.net, self.clothes, self.memory, self.settings = net, clothes, memory, settings
        self.register_buffer("clothes_of_identity", clothes_of_identity)
        self.optimized = ("net",) if clothes is None else ("clothes", "net")
        self.extra_state = () if memory is None else ("memory",)

    def losses(self, batch: ReidBatch, at: Progress) -> Iterator[tuple[str, Losses]]:
        """Yield the clothes classifier's loss, once it trains, then the network's.

        Losses that do not train are computed without gradient, for the log.
        """
        s, adversarial = self.settings, at.epoch >= self.settings.adversarial_from
        groups, rest = divmod(len(batch), s.group or len(batch))
        groups = 1 if rest else groups
        batchnorm.regroup(self.net, groups)
        features, scores = self.net(batch.images)
        identity = CLASSIFICATION[s.identity]
        train = {
            "classification": identity(scores, batch.identities, scale=s.scale, margin=s.margin)
        }
        with nullcontext() if s.pair_weight else torch.no_grad():
            pair = PAIRWISE[s.pair](
                features,
                batch.identities,
                scale=s.pair_scale,
                margin=s.pair_margin,
                gradient=s.pair_gradient,
                groups=groups,
            )
        if s.pair_weight:
            train["weighted_pair"] = s.pair_weight * pair
        log = {"accuracy": _accuracy(scores, batch.identities), "pair": pair.detach()}
        if self.clothes is not None:
            clothes = self._clothes_loss(self.clothes, features, batch, at)
            if at.epoch >= s.clothes_from:
                yield "clothes", Losses(train={"clothes": clothes})
            else:
                log["clothes"] = clothes
            cosines, loss = self._adversarial_loss(self.clothes, features, batch, at)
            log["clothes_accuracy"] = _accuracy(cosines, batch.clothes)
            (train if adversarial else log)["adversarial"] = loss
        if self.memory is not None:
            # The memory stays empty until the adversarial loss trains.
            if adversarial:
                allowed = self.clothes_of_identity[batch.identities]
                train["adversarial"] = self.memory(features, batch.clothes, allowed)
            else:
                log["adversarial"] = features.new_zeros(())
        broken = torch.tensor(float(len(batch.broken)), device=features.device)
        yield "net", Losses(train, log, count={"broken": broken})

    def _clothes_loss(
        self, classifier: nn.Module, features: Tensor, batch: ReidBatch, at: Progress
    ) -> Tensor:
        trains = at.epoch >= self.settings.clothes_from
        # DistributedDataParallel must not run forward without running backward.
        head = classifier if trains else unwrap(classifier)
        with nullcontext() if trains else torch.no_grad():
            loss = CLOTHES[self.settings.clothes]
            return loss(head(features.detach()), batch.clothes, scale=self.settings.scale)

    def _adversarial_loss(
        self, classifier: nn.Module, features: Tensor, batch: ReidBatch, at: Progress
    ) -> tuple[Tensor, Tensor]:
        """Cosines and CAL of the updated clothes classifier, whose weights are constants here."""
        s, head = self.settings, unwrap(classifier)
        fixed: dict[str, Any] = {name: p.detach() for name, p in head.named_parameters()}
        with nullcontext() if at.epoch >= s.adversarial_from else torch.no_grad():
            cosines = functional_call(head, fixed, (features,))
            allowed = self.clothes_of_identity[batch.identities]
            loss = cal(cosines, batch.clothes, allowed, scale=s.scale, epsilon=s.epsilon)
        return cosines, loss


def _accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == labels).double().mean()
