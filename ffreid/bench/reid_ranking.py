"""Time of ranking and re-ranking."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ffreid.bench.common import SEED
from ffreid.bench.reference_retrieval import reference_rank, reference_rerank
from ffreid.engine import timing
from ffreid.engine.timing import measure_alone, milliseconds
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.retrieval.ranking import cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank

LAST = (10176, 125353, 4096)
"""Queries, gallery and dimensions of LaST's features."""
row = partial(timing.row, part=True)  # the stages have different sizes: no shares


def ranking_rows(quick: bool, device: torch.device) -> list[dict[str, Any]]:
    """Time three protocols at the sizes of LTCC and DeepChange, and the memory that they take.

    Every distance must be read once: Q x G x 4 bytes, of which there is a row.
    """
    rows = size_rows("LTCC", 60 if quick else 493, 7050, 75, 12, device)
    rows += size_rows("DeepChange", 6 if quick else 300, 62956, 521, 17, device)
    queries, items = (50, 20000) if quick else (2000, 60000)
    cost = measure_alone(ranking_of_features, queries, items)
    stage = f"3 protocols from features, {queries} x {items}, 64 dimensions"
    rows.append(row(stage, cost.milliseconds, megabytes=cost.megabytes))
    if not quick and device.type == "cpu":
        cost = measure_alone(ranking_of_features, *LAST)
        stage = "3 protocols from features, LaST size, {} x {}, {} dimensions".format(*LAST)
        rows.append(row(stage, cost.milliseconds, megabytes=cost.megabytes))
    return rows


def size_rows(
    name: str, queries: int, items: int, identities: int, cameras: int, device: torch.device
) -> list[dict[str, Any]]:
    """Time the evaluator and its reference on the same distances, at the size of dataset `name`."""
    generator = torch.Generator().manual_seed(SEED)
    query = random_labels(queries, identities, cameras, generator)
    gallery = random_labels(items, identities, cameras, generator)
    distances = torch.randn(queries, items, generator=generator).to(device)
    fast = milliseconds(lambda: rank(distances, query, gallery, STANDARD), 5)
    slow = milliseconds(
        lambda: [reference_rank(distances, query, gallery, protocol) for protocol in STANDARD], 1
    )
    return [
        row(f"3 protocols, {name} size, {queries} x {items}", fast, slow),
        row("  reading the distances once", milliseconds(distances.sum, 3)),
    ]


def ranking_of_features(queries: int, items: int, dimensions: int = 64) -> Callable[[], object]:
    """Return a function that ranks random features."""
    generator = torch.Generator().manual_seed(SEED)
    query = random_labels(queries, 500, 17, generator)
    gallery = random_labels(items, 500, 17, generator)
    distances = cosine_distances(*random_features(queries, items, dimensions))
    return lambda: rank(distances, query, gallery, STANDARD)


def reranking_rows(quick: bool) -> list[dict[str, Any]]:
    """Time re-ranking beside the dense formula, and with 100,000 items, which that cannot hold.

    Dense, 100,000 items take three tables of 40 GB. All pairs of items must be compared:
    2 x N x N x D operations.
    """
    queries, items = (20, 380) if quick else (200, 1800)
    left, right = random_features(queries, items, 128)
    both = torch.cat([left, right]).numpy()
    fast = milliseconds(lambda: rerank(left, right)(0, queries), 1 if quick else 3)
    slow = milliseconds(lambda: reference_rerank(both, queries), 1)
    few, many = (30, 3000) if quick else (300, 100000)
    cost = measure_alone(reranking_of_features, few, many)
    large = f"re-ranking, {few} x {many}, 128 dimensions"
    return [
        row(f"re-ranking, {queries} x {items}, 128 dimensions", fast, slow),
        row(large, cost.milliseconds, megabytes=cost.megabytes),
    ]


def reranking_of_features(queries: int, items: int) -> Callable[[], object]:
    """Return a function that re-ranks random features of 128 dimensions, 50 queries at a time."""
    left, right = random_features(queries, items, 128)

    def call() -> None:
        distances = rerank(left, right)
        for start in range(0, queries, 50):
            distances(start, min(start + 50, queries))

    return call


def random_labels(
    count: int, identities: int, cameras: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return labels (count,) of random identities with three sets of clothes each."""
    identity = torch.randint(identities, (count,), generator=generator)
    clothes = identity * 3 + torch.randint(3, (count,), generator=generator)
    camera = torch.randint(cameras, (count,), generator=generator)
    return {"identity": identity, "camera": camera, "clothes": clothes}


def random_features(queries: int, items: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return unit features (queries, D) and (items, D) in clusters of about 20."""
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.randn(max((queries + items) // 20, 2), dimensions, generator=generator)

    def sample(count: int) -> Tensor:
        cluster = torch.randint(len(centres), (count,), generator=generator)
        noise = torch.randn(count, dimensions, generator=generator)
        return unit(noise.mul_(0.7).add_(centres[cluster]))

    return sample(queries), sample(items)
