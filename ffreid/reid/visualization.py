"""Rank lists of some queries as pictures: who was found, right and wrong, in the search's order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.engine.dataset_files import read_image, write_image
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.draw import caption, draw_rank_list, draw_sheet, shown_frame
from ffreid.reid.feature_extraction import record_path
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval import protocols
from ffreid.reid.retrieval.protocols import Protocol, match_masks
from ffreid.reid.retrieval.ranking import Ranking
from ffreid.reid.scoring import ResultRow

_SHOWN = 10
_ON_A_SHEET = 20
_FIRST_CHOICE = "CC"
Picture = npt.NDArray[np.uint8]


def draw_rank_lists(
    source: Source, search: ExtractedFeatures, row: ResultRow, folder: Path, count: int
) -> int:
    """Write the rank lists of `count` queries, worst first, as ``folder/*.png``.

    Up to 20 also stand on one ``sheet.png``. Pictures of an earlier run are removed.

    Args:
        source: where the pictures are.
        search: features of its test search.
        row: whose protocol says what is junk and what a match.
        folder: is made.
        count: queries, chosen by `evenly_spread_queries`.

    Returns:
        How many were drawn: fewer where fewer queries are valid.
    """
    assert row.ranking is not None
    for old in folder.glob("*.png"):
        old.unlink()
    drawn: list[Picture] = []
    chosen = evenly_spread_queries(row.ranking, count)
    pictures = rank_list_images(source, source.test, search, row, chosen)
    for place, (index, picture) in enumerate(zip(chosen, pictures, strict=True)):
        path, precision = search.query.paths[index], float(row.ranking.precision[index])
        name = f"{place:03d}-ap{round(100 * precision):03d}-{path.replace('/', '_')}"
        write_image(folder / f"{name.removesuffix('.jpg').removesuffix('.png')}.png", picture)
        drawn.append(picture)
    if 1 < len(drawn) <= _ON_A_SHEET:
        write_image(folder / "sheet.png", draw_sheet(drawn))
    return len(drawn)


def rank_list_images(
    source: Source,
    searched: EvalSplit,
    search: ExtractedFeatures,
    row: ResultRow,
    chosen: Sequence[int],
) -> Iterator[Picture]:
    """Draw the rank lists of some queries.

    Args:
        source: where the pictures are.
        searched: the records of the search.
        search: its features.
        row: whose protocol says what is junk and what a match.
        chosen: indices of queries.

    Yields:
        (H, W, 3) uint8 each.
    """
    assert row.ranking is not None
    protocol = next(one for one in search.protocols if one.name == row.protocol)
    queries = {record_path(record): record for record in searched.query}
    gallery = {record_path(record): record for record in searched.gallery}
    for index in chosen:
        path, precision = search.query.paths[index], float(row.ranking.precision[index])
        items, good, distances = top_matches(search, protocol, index)
        found = [gallery[search.gallery.paths[item]] for item in items]
        yield draw_rank_list(
            _read(source, queries[path]),
            [_read(source, record) for record in found],
            good=good,
            scores=distances,
            label=caption(queries[path], source.columns),
            labels=[caption(record, source.columns) for record in found],
            title=f"{path}: {row.protocol}, AP {100 * precision:.1f} %, "
            f"first match at rank {int(row.ranking.first[index])}",
        )


def row_to_draw(rows: Sequence[ResultRow]) -> ResultRow | None:
    """Choose the row whose lists are worth a look: CC, else the first with a valid query."""
    valid = [row for row in rows if row.comparable and row.scores.n_valid]
    hardest = [row for row in valid if row.protocol == _FIRST_CHOICE]
    return next(iter(hardest or valid), None)


def evenly_spread_queries(ranking: Ranking, count: int) -> list[int]:
    """Choose `count` valid queries evenly from the worst to the best average precision."""
    valid = ranking.valid.nonzero().view(-1)
    order = valid[ranking.precision[valid].argsort(stable=True)].tolist()
    count = min(count, len(order))
    return [order[round(i * (len(order) - 1) / max(count - 1, 1))] for i in range(count)]


def top_matches(
    search: ExtractedFeatures, protocol: Protocol, query: int, length: int = _SHOWN
) -> tuple[list[int], list[bool], list[float]]:
    """Give the gallery items that a query finds first, junk left out.

    Args:
        search: features of length 1 and labels.
        protocol: what is junk and what a match.
        query: its index.
        length: of the list at most.

    Returns:
        Their indices, which of them match, and their distances (1 less the cosine).
    """
    device = torch.device("cpu")
    labels, gallery = search.labels(device)
    own = {name: values[query : query + 1] for name, values in labels.items()}
    good, junk = (mask[0] for mask in match_masks(protocol, own, gallery))
    shown = protocols.filter_mask(gallery, protocol.gallery) & ~junk
    items = shown.nonzero().view(-1)
    distances: Tensor = 1 - search.gallery.features[items] @ search.query.features[query]
    first = distances.argsort(stable=True)[:length]
    order = items[first]
    return order.tolist(), good[order].tolist(), distances[first].tolist()


def _read(source: Source, record: Record) -> Picture:
    return read_image(source.folder / shown_frame(record))
