"""How long ranking takes here, beside an argsort and a Python loop for each protocol."""

from typing import Any

import torch
from torch import Tensor

from ffreid.engine.timing import milliseconds, peak_megabytes, row
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.plain import plain_rank
from ffreid.reid.retrieval.protocols import STANDARD
from ffreid.reid.retrieval.ranking import cosine_distances, rank

_SEED = 0
_DIMENSIONS = 4096


def evaluator_rows(quick: bool) -> list[dict[str, Any]]:
    """Time three protocols at the sizes of LTCC and DeepChange, and the peak memory.

    Returns:
        A row a measurement, with the columns of `row`. Memory comes first: the process's peak
        never falls.
    """
    rows = memory_rows(quick)
    rows += size_rows("LTCC", 60 if quick else 493, 7050, 75, 12, features=not quick)
    return rows + size_rows("DeepChange", 6 if quick else 300, 62956, 521, 17, features=not quick)


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
        features: whether to time the evaluator from features of 4,096 dimensions, too.
    """
    generator = torch.Generator().manual_seed(_SEED)
    query = made_up_labels(queries, identities, cameras, generator)
    gallery = made_up_labels(items, identities, cameras, generator)
    distances = torch.randn(queries, items, generator=generator)

    def plain() -> None:
        for protocol in STANDARD:
            plain_rank(distances, query, gallery, protocol)

    fast = milliseconds(lambda: rank(distances, query, gallery, STANDARD), 3)
    size = f"{name} size, {queries} x {items}"
    rows = [row(f"3 protocols, {size}", fast, milliseconds(plain, 1))]
    if features:
        left, right = (
            unit(torch.randn(count, _DIMENSIONS, generator=generator)) for count in (queries, items)
        )
        give = cosine_distances(left, right)
        taken = milliseconds(lambda: rank(give, query, gallery, STANDARD), 1)
        rows.append(row(f"  from features of {_DIMENSIONS} dimensions", taken, part=True))
    return rows


def memory_rows(quick: bool) -> list[dict[str, Any]]:
    """Time 2,000 queries in 60,000 items, and how far they raise the peak memory."""
    queries, items = (50, 20000) if quick else (2000, 60000)
    generator = torch.Generator().manual_seed(_SEED)
    query = made_up_labels(queries, 500, 17, generator)
    gallery = made_up_labels(items, 500, 17, generator)
    left, right = (unit(torch.randn(count, 64, generator=generator)) for count in (queries, items))
    give = cosine_distances(left, right)
    before = peak_megabytes()
    taken = milliseconds(lambda: rank(give, query, gallery, STANDARD), 1)
    grown = peak_megabytes() - before
    return [row(f"3 protocols, {queries} x {items}", taken, part=True) | {"peak MB": grown}]


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
