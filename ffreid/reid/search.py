"""Search of a user's own pictures or tracklets: the gallery items that are nearest to queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ffreid.errors import UserError
from ffreid.reid import calibration
from ffreid.reid.gallery import fingerprint, item_features, open_features
from ffreid.reid.nearest import nearest_rows
from ffreid.reid.own_files import Item, find_items
from ffreid.reid.predictor import ImageInput, ReidModel, Tracklet

TOP = 10
Searchable = str | Path | Sequence[ImageInput | Tracklet]
"""A picture's or a folder's path, or images as `ReidModel.embed` takes them."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A gallery item that was found: its index, its path in the gallery, its cosine."""

    index: int
    name: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search has found.

    Attributes:
        queries: paths of the queries below the searched folder; ``images[0]`` of images.
        matches: of each query, the nearest first.
        unreadable: reasons by path of the pictures that could not be read; they are left out.
        notes: lines for the user.
        extracted: number of features that were not kept from an earlier search.
        threshold: least cosine of a match, if there is one; a query without match is nobody.
        query_items, gallery_items: files of queries and gallery; empty for images.
    """

    queries: tuple[str, ...]
    matches: tuple[tuple[Match, ...], ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extracted: int = 0
    threshold: float | None = None
    query_items: tuple[Item, ...] = ()
    gallery_items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class _Part:
    """Queries or gallery: `features` at `rows` are those of the items with these names and keys."""

    names: tuple[str, ...]
    features: Any
    rows: Any
    keys: tuple[bytes, ...] = ()
    items: tuple[Item, ...] = ()


def search(
    model: ReidModel,
    query: Searchable,
    gallery: Searchable,
    *,
    top: int = TOP,
    false_match_rate: float | None = None,
) -> SearchResult:
    """Find the `top` gallery items with the largest cosine to each query.

    With a `false_match_rate` they pass the threshold that so many strangers would pass, from the
    calibration beside the model's checkpoint.

    Features of files are kept beside the gallery's folder, see `gallery.open_features`. A gallery
    item with the content of the query is the query's own picture, and not found.

    Raises:
        UserError: nothing can be read, of queries or of gallery.
    """
    if top < 1:
        raise UserError(f"top is {top}", "use 1 or more")
    unreadable, notes, extracted = dict[str, str](), list[str](), 0
    home = Path(gallery) if isinstance(gallery, str | Path) else None
    if home is not None and home.exists() and not home.is_dir():
        raise UserError(f"the gallery {home} is a file", "use a folder of pictures")
    found_items = {
        kind: find_items(Path(value), video=model.video)
        for kind, value in (("query", query), ("gallery", gallery))
        if isinstance(value, str | Path)
    }
    mark = fingerprint(model.cfg, model.net.state_dict())
    calibrated = None
    if false_match_rate is not None:
        if model.checkpoint is None:
            raise UserError("the model has random weights", "use a checkpoint")
        loose = fingerprint(model.cfg, model.net.state_dict(), rounding=False)
        calibrated = calibration.read(model.checkpoint, loose)
        calibrated.interval(false_match_rate)  # an error before the work, if there is none
    with open_features(model, home, mark) as file:
        parts = []
        for kind, value in (("query", query), ("gallery", gallery)):
            if not isinstance(value, str | Path):
                features = model.embed(value).float().numpy()
                names = tuple(f"images[{i}]" for i in range(len(features)))
                parts.append(_Part(names, features, np.arange(len(features))))
                continue
            found = found_items[kind]
            result = item_features(model, found.items, file)
            unreadable |= dict(found.unreadable) | result.unreadable
            notes += found.notes
            extracted += result.extracted
            kept = np.flatnonzero(result.rows >= 0).tolist()
            if not kept:
                path, reason = next(iter(unreadable.items()))
                raise UserError(
                    f"no picture of the {kind} can be read: {named(path, reason)}",
                    "use other pictures",
                )
            parts.append(
                _Part(
                    tuple(found.items[i].name for i in kept),
                    None,
                    result.rows[kept],
                    tuple(result.keys[i] for i in kept),
                    tuple(found.items[i] for i in kept),
                )
            )
        queries, items = parts
        own = _same(queries.keys, items.keys)
        asked = file.features[queries.rows] if queries.features is None else queries.features
        nearest = nearest_rows(
            torch.from_numpy(np.asarray(asked, np.float32)).to(model.device),
            file.features if items.features is None else items.features,
            items.rows,
            top,
            excluded=own,
        )
    if count := sum(map(bool, own)):
        notes.append(
            f"queries that are in the gallery themselves: {count} of {len(own)}; their own "
            "pictures are not among their matches"
        )
    threshold = None
    if calibrated is not None and false_match_rate is not None:
        threshold = calibrated.threshold(false_match_rate, len(items.names))
        low, high = calibrated.interval(false_match_rate)
        notes.append(
            f"matches have a cosine of {threshold:.4f} or more, which {100 * false_match_rate:g} % "
            f"of strangers pass (95 % interval {100 * low:.2g} to {100 * high:.2g} %)"
        )
    if len(items.names) < 2:
        notes.append("the gallery has one item only")
    return SearchResult(
        queries=queries.names,
        matches=tuple(
            tuple(
                Match(index=item, name=items.names[item], cosine=cosine)
                for item, cosine in zip(found, cosines, strict=True)
                if threshold is None or cosine >= threshold
            )
            for found, cosines in nearest
        ),
        unreadable=unreadable,
        notes=tuple(dict.fromkeys(notes)),
        extracted=extracted,
        threshold=threshold,
        query_items=queries.items,
        gallery_items=items.items,
    )


def named(path: str, reason: str) -> str:
    """A reason with the path that it is about."""
    return reason if path in reason else f"{path}: {reason}"


def _same(queries: Sequence[bytes], gallery: Sequence[bytes]) -> list[list[int]]:
    """The gallery items with the key of each query."""
    asked = dict.fromkeys(queries)
    found: dict[bytes, list[int]] = {}
    for index, key in enumerate(gallery):
        if key in asked:
            found.setdefault(key, []).append(index)
    return [found.get(key, []) for key in queries]
