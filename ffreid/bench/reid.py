"""How long the stages of a search take here, beside the plain forms of what was made faster."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ffreid.bench.reference_retrieval import reference_rank, reference_rerank
from ffreid.bench.reid_networks import feeding_rows, network_rows, training_rows
from ffreid.engine import timing
from ffreid.engine.timing import alone, milliseconds
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.retrieval.ranking import cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank

_SEED = 0
_DIMENSIONS = 4096
row = partial(timing.row, part=True)  # the stages are of different sizes: none is a share


def bench(quick: bool) -> list[dict[str, Any]]:
    """Time every stage on made-up data.

    Args:
        quick: small inputs and few repetitions, for a look within a minute.

    Returns:
        A row a measurement, with the columns of `engine.timing.row`; ``share`` is None.
    """
    return [line for stage in STAGES for line in stage(quick)]


def ranking_rows(quick: bool) -> list[dict[str, Any]]:
    """Time three protocols at the sizes of LTCC and DeepChange, and the memory that they take.

    Every distance must be read once: Q x G x 4 bytes, of which there is a row.
    """
    rows = size_rows("LTCC", 60 if quick else 493, 7050, 75, 12, features=not quick)
    rows += size_rows("DeepChange", 6 if quick else 300, 62956, 521, 17, features=not quick)
    queries, items = (50, 20000) if quick else (2000, 60000)
    cost = alone(ranking_of_features, queries, items)
    stage = f"3 protocols from features, {queries} x {items}, 64 dimensions"
    return [*rows, row(stage, cost.milliseconds, megabytes=cost.megabytes)]


def size_rows(
    name: str, queries: int, items: int, identities: int, cameras: int, *, features: bool
) -> list[dict[str, Any]]:
    """Time the evaluator from the same distance values as its plain form.

    Args:
        name: the data set that is as large.
        queries: how many of them.
        items: size of the gallery.
        identities: how many of them; every one has three outfits.
        cameras: how many of them.
        features: whether to time the evaluator from features of 4,096 dimensions, too, whose
            products take 2 x Q x G x 4,096 operations at least.
    """
    generator = torch.Generator().manual_seed(_SEED)
    query = made_up_labels(queries, identities, cameras, generator)
    gallery = made_up_labels(items, identities, cameras, generator)
    distances = torch.randn(queries, items, generator=generator)

    def plain() -> None:
        for protocol in STANDARD:
            reference_rank(distances, query, gallery, protocol)

    fast = milliseconds(lambda: rank(distances, query, gallery, STANDARD), 5)
    rows = [
        row(f"3 protocols, {name} size, {queries} x {items}", fast, milliseconds(plain, 1)),
        row("  reading the distances once", milliseconds(distances.sum, 3)),
    ]
    if features:
        left, right = made_up_features(queries, items, _DIMENSIONS)
        give = cosine_distances(left, right)
        taken = milliseconds(lambda: rank(give, query, gallery, STANDARD), 1)
        rows.append(row(f"  from features of {_DIMENSIONS} dimensions", taken))
        rows.append(row("  the features' products alone", milliseconds(lambda: left @ right.T, 1)))
    return rows


def ranking_of_features(queries: int, items: int) -> Callable[[], object]:
    """Give the ranking of made-up features of 64 dimensions, to be called."""
    generator = torch.Generator().manual_seed(_SEED)
    query = made_up_labels(queries, 500, 17, generator)
    gallery = made_up_labels(items, 500, 17, generator)
    give = cosine_distances(*made_up_features(queries, items, 64))
    return lambda: rank(give, query, gallery, STANDARD)


def reranking_rows(quick: bool) -> list[dict[str, Any]]:
    """Time re-ranking against the dense formula, and with 100,000 items, where that is no choice.

    Dense, 100,000 items take three tables of 40 GB. All pairs of items must be compared:
    2 x N x N x D operations.
    """
    queries, items = (20, 380) if quick else (200, 1800)
    left, right = made_up_features(queries, items, 128)
    both = torch.cat([left, right]).numpy()
    fast = milliseconds(lambda: rerank(left, right)(0, queries), 1 if quick else 3)
    slow = milliseconds(lambda: reference_rerank(both, queries), 1)
    few, many = (30, 3000) if quick else (300, 100000)
    cost = alone(reranking_of_features, few, many)
    return [
        row(f"re-ranking, {queries} x {items}, 128 dimensions", fast, slow),
        row(
            f"re-ranking, {few} x {many}, 128 dimensions",
            cost.milliseconds,
            megabytes=cost.megabytes,
        ),
    ]


def reranking_of_features(queries: int, items: int) -> Callable[[], object]:
    """Give the re-ranking of made-up features of 128 dimensions, to be called."""
    left, right = made_up_features(queries, items, 128)

    def call() -> None:
        give = rerank(left, right)
        for start in range(0, queries, 50):
            give(start, min(start + 50, queries))

    return call


STAGES: tuple[Callable[[bool], list[dict[str, Any]]], ...] = (
    feeding_rows,
    network_rows,
    training_rows,
    ranking_rows,
    reranking_rows,
)
"""From pictures to scores; each gives its rows."""


def made_up_labels(
    count: int, identities: int, cameras: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Give labels (count,) of random identities with three outfits each."""
    identity = torch.randint(identities, (count,), generator=generator)
    outfit = torch.randint(3, (count,), generator=generator)
    return {
        "identity": identity,
        "camera": torch.randint(cameras, (count,), generator=generator),
        "clothes": identity * 3 + outfit,
    }


def made_up_features(queries: int, items: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Give unit features (queries, D) and (items, D) in clusters of about 20."""
    generator = torch.Generator().manual_seed(_SEED)
    centres = torch.randn(max((queries + items) // 20, 2), dimensions, generator=generator)

    def some(count: int) -> Tensor:
        whose = torch.randint(len(centres), (count,), generator=generator)
        noise = torch.randn(count, dimensions, generator=generator)
        return unit(noise.mul_(0.7).add_(centres[whose]))

    return some(queries), some(items)
