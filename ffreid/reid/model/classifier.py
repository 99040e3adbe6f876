"""Identity and clothes classifiers, used in training only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffreid.reid.cosines import cosine_matrix


class Classifier(nn.Module):
    """A linear layer with weights from N(0, 0.001) and bias 0."""

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
    """Cosines between features and a learned vector per class; losses scale them."""

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        start = torch.empty(classes, feature_dim).uniform_(-1.0, 1.0)
        self.weight = nn.Parameter(F.normalize(start, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to cosines (B, C), at least in float32."""
        return cosine_matrix(features, self.weight)
