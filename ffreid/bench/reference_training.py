"""CAL's training step in the form of Simple-CCReID: one batch norm group, in float32."""

from collections.abc import Callable

import torch
from torch.optim import Adam

from ffreid.reid.data.batch import ReidBatch
from ffreid.reid.losses import CLASSIFICATION, CLOTHES, cal
from ffreid.reid.model import NETWORKS
from ffreid.reid.model.classifier import Classifier, NormalizedClassifier


def plain_step(batch: ReidBatch, identities: int) -> Callable[[], object]:
    """Return a step that trains ResNet-50 and both classifiers, with two clothes an identity."""
    device = batch.images.device
    net, head = NETWORKS["resnet50"]().to(device), Classifier(4096, identities).to(device)
    clothes_head = NormalizedClassifier(4096, 2 * identities).to(device)
    parameters = [*net.parameters(), *head.parameters()]
    main, other = (
        Adam(part, lr=3.5e-4, weight_decay=5e-4) for part in (parameters, clothes_head.parameters())
    )
    owner = torch.arange(2 * identities, device=device) // 2
    allowed = owner == torch.arange(identities, device=device)[:, None]

    def step() -> None:
        features = net(batch.images)
        scores = head(features)
        own = CLOTHES["cosface"](clothes_head(features.detach()), batch.clothes, scale=16.0)
        other.zero_grad()
        torch.autograd.backward(own)
        other.step()
        loss = CLASSIFICATION["crossentropy"](scores, batch.identities)
        loss = loss + cal(clothes_head(features), batch.clothes, allowed[batch.identities])
        main.zero_grad()
        torch.autograd.backward(loss)
        main.step()

    return step
