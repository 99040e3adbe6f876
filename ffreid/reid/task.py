"""The reid task: a network with its identity classifier, and the clothes that CAL plays against."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ffreid.engine import batchnorm
from ffreid.engine.distributed.group import Gradient
from ffreid.engine.task import Progress, Task, plain
from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.losses import CLASSIFICATION, CLOTHES, PAIRWISE, ClothesMemory, cal

Terms = dict[str, Tensor]


class Identifier(nn.Module):
    """A network and the classifier of identities that trains it.

    Args:
        model: pictures or clips to features (B, D).
        classifier: features to identity scores (B, C).
    """

    def __init__(self, model: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.model, self.classifier = model, classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, [T,] H, W) to features (B, D) and scores (B, C)."""
        features = self.model(images)
        return features, self.classifier(features)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which losses train, from which epoch, and how they weigh.

    Attributes:
        identity: name in `CLASSIFICATION`.
        clothes: name in `CLOTHES`.
        pair: name in `PAIRWISE`.
        pair_weight: 0 computes the pairwise loss for the log only.
        pair_gradient: see `engine.dist.gather_with_grad`.
        scale: of cosines in the identity and clothes losses.
        margin: of the identity loss.
        pair_scale: of cosines in the pairwise loss.
        pair_margin: of the pairwise loss.
        epsilon: of CAL.
        clothes_from: epoch from which the clothes classifier trains.
        adversarial_from: epoch from which CAL trains the network.
        group: samples that one of the original's processes has; 0 for all there are.
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
        clothes: classifier of outfits by cosines (B, O).
        memory: remembered features of outfits, in place of `clothes`.
        owners: (C, O) bool, which outfit is whose.
        settings: of the losses.
    """

    owners: Tensor

    def __init__(
        self,
        net: Identifier,
        *,
        clothes: nn.Module | None = None,
        memory: ClothesMemory | None = None,
        owners: Tensor,
        settings: Settings,
    ) -> None:
        super().__init__()
        assert clothes is None or memory is None
        self.net, self.clothes, self.memory, self.settings = net, clothes, memory, settings
        self.register_buffer("owners", owners)
        self.trained = ("net",) if clothes is None else ("clothes", "net")
        self.kept = () if memory is None else ("memory",)

    def losses(self, batch: ReidBatch, at: Progress) -> Iterator[tuple[str, Terms]]:
        """Yield the clothes classifier's loss, once it trains, then the network's.

        Terms that are off are computed without gradient, for the log.
        """
        batchnorm.regroup(self.net, self._groups(batch))
        features, scores = self.net(batch.images)
        terms = {"classification": self._identity(scores, batch)}
        terms |= self._pair(features, batch)
        if self.clothes is not None:
            trains = at.epoch >= self.settings.clothes_from
            # Wrapped for many processes it must not run forward without running backward.
            head = self.clothes if trains else plain(self.clothes)
            with nullcontext() if trains else torch.no_grad():
                cosines = head(features.detach())
                worn = CLOTHES[self.settings.clothes](
                    cosines, batch.clothes, scale=self.settings.scale
                )
            if trains:
                yield "clothes", {"clothes": worn}
            else:
                terms["_clothes"] = worn
            terms |= self._against_classifier(features, batch, at)
        if self.memory is not None:
            terms |= self._against_memory(features, batch, at)
        terms["_accuracy"] = _accuracy(scores, batch.identities)
        terms["#broken"] = torch.tensor(float(len(batch.broken)), device=features.device)
        yield "net", terms

    def _groups(self, batch: ReidBatch) -> int:
        """Count the groups of the original's processes in a batch, 1 where it holds no whole."""
        whole, rest = divmod(len(batch), self.settings.group or len(batch))
        return 1 if rest else whole

    def _identity(self, scores: Tensor, batch: ReidBatch) -> Tensor:
        s = self.settings
        loss = CLASSIFICATION[s.identity]
        return loss(scores, batch.identities, scale=s.scale, margin=s.margin)

    def _pair(self, features: Tensor, batch: ReidBatch) -> Terms:
        s = self.settings
        with nullcontext() if s.pair_weight else torch.no_grad():
            loss = PAIRWISE[s.pair](
                features,
                batch.identities,
                scale=s.pair_scale,
                margin=s.pair_margin,
                gradient=s.pair_gradient,
                groups=self._groups(batch),
            )
        if not s.pair_weight:
            return {"_pair": loss}
        return {"weighted_pair": s.pair_weight * loss, "_pair": loss.detach()}

    def _against_classifier(self, features: Tensor, batch: ReidBatch, at: Progress) -> Terms:
        """CAL by the updated classifier, whose weights are constants here."""
        assert self.clothes is not None
        head = plain(self.clothes)
        fixed: dict[str, Any] = {name: p.detach() for name, p in head.named_parameters()}
        on = at.epoch >= self.settings.adversarial_from
        with nullcontext() if on else torch.no_grad():
            cosines = functional_call(head, fixed, (features,))
            loss = cal(
                cosines,
                batch.clothes,
                self.owners[batch.identities],
                scale=self.settings.scale,
                epsilon=self.settings.epsilon,
            )
        correct = _accuracy(cosines, batch.clothes)
        return {"adversarial" if on else "_adversarial": loss, "_clothes_accuracy": correct}

    def _against_memory(self, features: Tensor, batch: ReidBatch, at: Progress) -> Terms:
        """CAL by the memory, which stays empty before CAL trains."""
        assert self.memory is not None
        if at.epoch < self.settings.adversarial_from:
            return {"_adversarial": features.new_zeros(())}
        own = self.owners[batch.identities]
        return {"adversarial": self.memory(features, batch.clothes, own)}


def _accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == labels).double().mean()
