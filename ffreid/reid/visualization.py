"""Rank lists as images: a query and its nearest gallery items, matches in green, others in red."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ffreid.engine.dataset_files import file_name, read_image, write_images
from ffreid.errors import printable
from ffreid.reid.data.records import EvalSplit, Record, Source, record_path
from ffreid.reid.features import ExtractedFeatures, LabelledFeatures
from ffreid.reid.nearest import nearest_items
from ffreid.reid.retrieval.ranking import Ranking
from ffreid.reid.scoring import ResultRow

MAX_SHEET_ROWS = 20
TILE_HEIGHT, TILE_WIDTH, BORDER, GAP = 192, 112, 5, 6
LINE, FONT, FONT_SIZE = 16, cv2.FONT_HERSHEY_SIMPLEX, 0.42
WHITE, BACKGROUND = (255, 255, 255), 32
MATCH, MISS, QUERY = (40, 200, 70), (225, 50, 50), (235, 235, 235)
UNKNOWN = (125, 125, 125)
FACE = 5
"""A face is in the upper fifth of a crop."""
COLOURS = {True: MATCH, False: MISS, None: UNKNOWN}
ImageArray = npt.NDArray[np.uint8]


def draw_rank_lists(
    source: Source, features: ExtractedFeatures, row: ResultRow, folder: Path, count: int
) -> int:
    """Write rank lists of `count` queries (or all valid ones) as ``folder/*.png``, worst first.

    Up to 20 are also stacked in ``sheet.png``. Rank lists of an earlier run are removed.
    """
    assert row.ranking is not None
    drawn: dict[str, ImageArray] = {}
    queries = evenly_spread_queries(row.ranking, count)
    images = rank_list_images(source, source.test, features, row, queries)
    precisions = row.ranking.precision

    def named() -> Iterator[tuple[str, ImageArray]]:
        for number, (query, image) in enumerate(zip(queries, images, strict=True)):
            path = features.query.paths[query].removesuffix(".jpg").removesuffix(".png")
            name = file_name(f"{number:03d}-ap{round(100 * float(precisions[query])):03d}-{path}")
            drawn[name] = image
            yield name, image
        if 1 < len(drawn) <= MAX_SHEET_ROWS:
            yield "sheet.png", draw_sheet(list(drawn.values()))

    write_images(folder, named())
    return len(drawn)


def rank_list_images(
    source: Source,
    split: EvalSplit,
    features: ExtractedFeatures,
    row: ResultRow,
    queries: Sequence[int],
) -> Iterator[ImageArray]:
    """Draw rank lists (H, W, 3) uint8 of the queries with these indices."""
    assert row.ranking is not None
    protocol = next(p for p in features.protocols if p.name == row.protocol)
    query_records = {record_path(record): record for record in split.query}
    gallery_records = {record_path(record): record for record in split.gallery}
    found = nearest_items(features, [protocol], queries, torch.device("cpu"))
    for query, by_protocol in zip(queries, found, strict=True):
        nearest = by_protocol[protocol.name]
        path, precision = features.query.paths[query], float(row.ranking.precision[query])
        records = [gallery_records[features.gallery.paths[item]] for item in nearest.items]
        yield draw_rank_list(
            read_record(source, query_records[path]),
            [read_record(source, record) for record in records],
            is_match=nearest.is_match,
            cosines=nearest.cosines,
            label=caption(features, features.query, query),
            labels=[caption(features, features.gallery, item) for item in nearest.items],
            title=f"{path}: {row.protocol}, AP {100 * precision:.1f} %, "
            f"first match at rank {int(row.ranking.first[query])}",
        )


def row_to_draw(rows: Sequence[ResultRow]) -> ResultRow | None:
    """The row whose lists are drawn: CC, else the first with a valid query."""
    valid = [row for row in rows if row.comparable and row.scores.n_valid]
    return next(iter([row for row in valid if row.protocol == "CC"] or valid), None)


def evenly_spread_queries(ranking: Ranking, count: int) -> list[int]:
    """Choose `count` valid queries evenly from the worst to the best average precision."""
    valid = ranking.valid.nonzero().view(-1)
    order = valid[ranking.precision[valid].argsort(stable=True)].tolist()
    count = min(count, len(order))
    return [order[round(i * (len(order) - 1) / max(count - 1, 1))] for i in range(count)]


def draw_rank_list(
    query: ImageArray,
    gallery: Sequence[ImageArray],
    *,
    is_match: Sequence[bool | None],
    cosines: Sequence[float],
    label: str = "",
    labels: Sequence[str] = (),
    title: str = "",
    empty: str = "only junk images\nin the gallery",
) -> ImageArray:
    """Draw a query on the left and its gallery images to the right, the nearest first.

    Images are (H, W, 3) uint8 RGB of any size, scaled to one tile size with their aspect ratio;
    lists of equal length have equal widths. Matches have a green border, others a red one (grey
    where that is unknown, None), the query a white one. `label` and `labels` (none or one each) are
    written below them; `empty` says why there are no gallery images.
    """
    ranked = zip(gallery, is_match, cosines, labels or [""] * len(gallery), strict=True)
    tiles = [draw_tile(query, QUERY, f"query\n{label}")]
    tiles += [
        draw_tile(image, COLOURS[match], f"{rank}: {cosine:.4f}\n{text}")
        for rank, (image, match, cosine, text) in enumerate(ranked, 1)
    ]
    height = max(len(tile) for tile in tiles)
    columns = [background(height, GAP)]
    for tile in tiles:
        filling = background(height - len(tile), tile.shape[1])
        columns += [np.concatenate([tile, filling]), background(height, GAP)]
    columns.insert(3, background(height, 2 * GAP))  # between query and gallery
    if not gallery:
        columns.append(background(height, 2 * TILE_WIDTH))
        write_lines(columns[-1], empty.splitlines(), TILE_HEIGHT // 2)
    row = np.concatenate(columns, axis=1)
    head = background(LINE + GAP if title else GAP, row.shape[1])
    write_lines(head, [title], 0)
    return np.concatenate([head, row])


def blur_face(image: ImageArray) -> ImageArray:
    """Blur the upper fifth of a crop (H, W, 3), where the face is, beyond recognition."""
    rows = -(-len(image) // FACE)
    few = cv2.resize(np.ascontiguousarray(image[:rows]), (4, 2), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(few, (image.shape[1], rows), interpolation=cv2.INTER_LINEAR)
    return np.concatenate([blurred, image[rows:]])


def draw_sheet(rows: Sequence[ImageArray]) -> ImageArray:
    """Stack rank lists (H, W, 3) uint8, padding shorter ones on the right."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.concatenate([row, background(len(row), width - row.shape[1])], axis=1) for row in rows]
    )


def caption(features: ExtractedFeatures, part: LabelledFeatures, index: int) -> str:
    """The file name of an item and its labels as the dataset names them, one per line."""
    names = part.own_names(features.names, features.columns, index)
    labels = [f"{column} {name}" for column, name in names.items()]
    return "\n".join([part.paths[index].rpartition("/")[2], *labels])


def read_record(source: Source, record: Record) -> ImageArray:
    """The image of a record: a tracklet's middle frame."""
    return read_image(source.folder / record.frames[len(record.frames) // 2])


def draw_tile(image: ImageArray, colour: tuple[int, int, int], label: str) -> ImageArray:
    """An image (H, W, 3), scaled to one size, with a coloured border and lines of text below."""
    height, width = image.shape[:2]
    scale = min(TILE_HEIGHT / height, TILE_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(np.ascontiguousarray(image), size, interpolation=method)
    tile = background(TILE_HEIGHT + 2 * BORDER, TILE_WIDTH + 2 * BORDER)
    top, left = BORDER + (TILE_HEIGHT - size[1]) // 2, BORDER + (TILE_WIDTH - size[0]) // 2
    tile[top - BORDER : top + size[1] + BORDER, left - BORDER : left + size[0] + BORDER] = colour
    tile[top : top + size[1], left : left + size[0]] = resized
    lines = label.splitlines()
    text = background(LINE * len(lines) + GAP, tile.shape[1])
    write_lines(text, lines, 0)
    return np.concatenate([tile, text])


def background(height: int, width: int) -> ImageArray:
    """An empty image (H, W, 3)."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def write_lines(canvas: ImageArray, lines: Sequence[str], top: int) -> None:
    """Write lines from row `top` on, in smaller letters where they are too long."""
    for number, line in enumerate(map(printable, lines), 1):
        # The font has ASCII letters only.
        line = line.encode("ascii", "backslashreplace").decode()
        (width, _), _ = cv2.getTextSize(line, FONT, FONT_SIZE, 1)
        size = FONT_SIZE * min(1.0, (canvas.shape[1] - 2 * BORDER) / max(width, 1))
        place = (BORDER, top + number * LINE - 3)
        cv2.putText(canvas, line, place, FONT, size, WHITE, 1, cv2.LINE_AA)
