"""Pictures of rank lists: a query and what was found for it, right in green and wrong in red."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ffreid.reid.data.records import Record

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

TILE_HEIGHT, TILE_WIDTH, BORDER, GAP = 192, 112, 5, 6
LINE, FONT, TEXT = 16, cv2.FONT_HERSHEY_SIMPLEX, 0.42
WHITE, GROUND = (255, 255, 255), 32
MATCH, MISS, QUERY = (40, 200, 70), (225, 50, 50), (235, 235, 235)


def draw_rank_list(
    query: Picture,
    found: Sequence[Picture],
    *,
    good: Sequence[bool],
    scores: Sequence[float],
    label: str = "",
    labels: Sequence[str] = (),
    title: str = "",
) -> Picture:
    """Draw a query at the left and what was found for it to its right, the nearest first.

    Matches have a green border, others a red one, the query a white one. Pictures are scaled to
    one tile size and keep their proportions.

    Args:
        query: (H, W, 3) uint8 RGB, of any size.
        found: such pictures in the order of the search, junk left out; perhaps none.
        good: whether each found picture is a match.
        scores: distance of each found picture, written beneath it with its rank.
        label: what to write beneath the query; ``\\n`` parts lines.
        labels: what to write beneath the found pictures; none, or one each.
        title: what to write above all.

    Returns:
        (H', W', 3) uint8 RGB; rows of equally many pictures have equal widths.
    """
    texts = labels or [""] * len(found)
    ranked = zip(found, good, scores, texts, strict=True)
    tiles = [_tile(query, QUERY, ["query", *label.splitlines()])]
    for rank, (picture, match, score, text) in enumerate(ranked, 1):
        lines = [f"{rank}: {score:.4f}", *text.splitlines()]
        tiles.append(_tile(picture, MATCH if match else MISS, lines))
    height = max(len(tile) for tile in tiles)
    columns: list[Picture] = []
    for tile in tiles:
        columns += [_taller(tile, height), _ground(height, GAP)]
    # The query stands apart from what was found.
    columns.insert(2, _ground(height, 2 * GAP))
    row = np.concatenate([_ground(height, GAP), *columns], axis=1)
    if not found:
        room = _ground(height, 2 * TILE_WIDTH)
        _write(room, ["nothing in the gallery", "but junk"], TILE_HEIGHT // 2)
        row = np.concatenate([row, room], axis=1)
    head = _ground(LINE + GAP if title else GAP, row.shape[1])
    _write(head, [title], 0)
    return np.concatenate([head, row])


def draw_sheet(rows: Sequence[Picture]) -> Picture:
    """Stack rank pictures of several queries, shorter lists filled up at the right.

    Args:
        rows: (H, W, 3) uint8 each, one at least.
    """
    width = max(row.shape[1] for row in rows)
    filled: list[Picture] = []
    for row in rows:
        filled.append(np.concatenate([row, _ground(len(row), width - row.shape[1])], axis=1))
    return np.concatenate(filled)


def shown_frame(record: Record) -> str:
    """Give the path of the picture that stands for a record: a tracklet's middle frame."""
    return record.frames[len(record.frames) // 2]


def caption(record: Record, columns: Sequence[str] = ("camera", "clothes")) -> str:
    """Give a record's identity and those of its labels that are known, a line each."""
    names = ("identity", *columns)
    return "\n".join(f"{name} {getattr(record, name)}" for name in names)


def _tile(picture: Picture, colour: Colour, lines: Sequence[str]) -> Picture:
    height, width = picture.shape[:2]
    scale = min(TILE_HEIGHT / height, TILE_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = cv2.resize(np.ascontiguousarray(picture), size, interpolation=method)
    tile = _ground(TILE_HEIGHT + 2 * BORDER, TILE_WIDTH + 2 * BORDER)
    top, left = BORDER + (TILE_HEIGHT - size[1]) // 2, BORDER + (TILE_WIDTH - size[0]) // 2
    around = tile[top - BORDER : top + size[1] + BORDER, left - BORDER : left + size[0] + BORDER]
    around[:] = colour
    tile[top : top + size[1], left : left + size[0]] = shown
    text = _ground(LINE * len(lines) + GAP, tile.shape[1])
    _write(text, lines, 0)
    return np.concatenate([tile, text])


def _taller(tile: Picture, height: int) -> Picture:
    return np.concatenate([tile, _ground(height - len(tile), tile.shape[1])])


def _ground(height: int, width: int) -> Picture:
    return np.full((height, width, 3), GROUND, np.uint8)


def _write(canvas: Picture, lines: Sequence[str], top: int) -> None:
    for number, line in enumerate(lines, 1):
        # Narrower letters rather than a line cut off.
        (width, _), _ = cv2.getTextSize(line, FONT, TEXT, 1)
        size = TEXT * min(1.0, (canvas.shape[1] - 2 * BORDER) / max(width, 1))
        place = (BORDER, top + number * LINE - 3)
        cv2.putText(canvas, line, place, FONT, size, WHITE, 1, cv2.LINE_AA)
