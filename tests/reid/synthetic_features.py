"""Small datasets in memory and synthetic features, for the tests of evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffreid.reid.data.batch import EvalSample, UnreadableRecord
from ffreid.reid.data.records import EvalSplit, Source
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import STANDARD, Protocol, label_columns


class TensorDataset(torch.utils.data.Dataset[EvalSample | UnreadableRecord]):
    """An evaluation's dataset of tensors (N, ...), those with an index in `broken` unreadable."""

    def __init__(self, images: Tensor, broken: Sequence[int] = ()) -> None:
        self.images, self.broken = images, broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> EvalSample | UnreadableRecord:
        if index in self.broken:
            return UnreadableRecord(index, f"{index}.png", "is damaged")
        return EvalSample(index, self.images[index].numpy())


class Projection(nn.Module):
    """Features of images of any shape, and of clips by the mean over their frames."""

    def __init__(self, weight: Tensor, *, video: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.video = video
        self.inner = nn.BatchNorm1d(1)

    def forward(self, images: Tensor) -> Tensor:
        images = images.flatten(3).mean(dim=2) if self.video else images
        return images.flatten(1) @ self.weight


def labelled_features(
    features: Tensor, identity: list[int], camera: list[int], clothes: list[int], name: str
) -> LabelledFeatures:
    return LabelledFeatures(
        features=features,
        labels=label_columns(identity=identity, camera=camera, clothes=clothes),
        paths=tuple(f"{name}/{index}.png" for index in range(len(features))),
    )


def synthetic_features(
    *,
    identities: int = 4,
    each: int = 6,
    columns: tuple[str, ...] = ("camera", "clothes"),
    protocols: tuple[Protocol, ...] = STANDARD,
    single_shot: tuple[tuple[int, ...], ...] = (),
    dataset: str = "ltcc",
    **about: Any,
) -> ExtractedFeatures:
    """Queries and a gallery of `identities`, noisy copies of a direction per identity.

    `about` are further attributes.
    """
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(identities, 8, generator=generator)
    sides = []
    for name, count in (("query", 2), ("gallery", each)):
        identity = [label for label in range(identities) for _ in range(count)]
        noise = torch.randn(len(identity), 8, generator=generator)
        camera = [index % 3 for index in range(len(identity))]
        clothes = [10 * label + index // 2 % 2 for index, label in enumerate(identity)]
        features = unit(centres[identity] + 1.5 * noise)
        sides.append(labelled_features(features, identity, camera, clothes, name))
    return ExtractedFeatures(
        dataset=dataset,
        network="resnet50",
        weights="best.pth",
        columns=columns,
        protocols=protocols,
        query=sides[0],
        gallery=sides[1],
        single_shot=single_shot,
        **about,
    )


def empty_source(test: EvalSplit, **options: Any) -> Source:
    """A dataset with only its test split and `options`."""
    attributes: dict[str, Any] = {
        "name": "toy",
        "folder": Path(),
        "video": False,
        "train": (),
        "identities": (),
        "clothes": (),
    }
    return Source(**attributes | {"test": test} | options)
