"""The heads that are trained and then dropped: identity and clothes classifiers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.reid.cosines import cosine_matrix


class Classifier(nn.Module):
    """A linear layer, weights from N(0, 0.001), bias 0.

    Args:
        feature_dim: D of the features.
        classes: C.
    """

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_dim, classes)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to logits (B, C)."""
        logits: Tensor = self.classifier(features)
        return logits


class NormalizedClassifier(nn.Module):
    """Cosines between features and one learnt vector per class; scaling them is the loss's part.

    Args:
        feature_dim: D of the features.
        classes: C.
    """

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        start = torch.empty(classes, feature_dim).uniform_(-1.0, 1.0)
        self.weight = nn.Parameter(F.normalize(start, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to cosines (B, C), never in half precision."""
        return cosine_matrix(features, self.weight)
