"""What a dataset cannot be used for, known before any training: a message and its remedy."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ffreid.reid.data.records import EvalSplit, Source, labels
from ffreid.reid.retrieval.protocols import Labels, Protocol, filter_mask, is_match

Problem = tuple[str, str]
"""What is wrong, and what to do."""


def untrainable(source: Source) -> Problem | None:
    """Whether the images are of too few identities to train on."""
    if not source.train:
        return (
            "there are no training images",
            "training needs those of two identities or more; ffreid data and ffreid eval need none",
        )
    if len(source.identities) == 1:
        return (
            f"all training images are of one identity, {source.identities[0]}: nothing can be "
            "learnt from a single class",
            "check the labels, and that the folder is the right one; ffreid eval works with one",
        )
    return None


def without_match(
    split: EvalSplit, columns: Sequence[str], *, protocol: str = ""
) -> Problem | None:
    """Whether no query can have a match, under `protocol` or under any whose labels are known."""
    query, gallery = labels(split.query, columns), labels(split.gallery, columns)
    known = [
        p
        for p in split.protocols
        if p.columns <= {"identity", *columns} and protocol in ("", p.name)
    ]
    if _any_match(known, query, gallery):
        return None
    under = f" under {protocol}" if protocol else ""
    same_camera = [replace(p, other=tuple(c for c in p.other if c != "camera")) for p in known]
    if not _any_match([Protocol(name="", other=())], query, gallery):
        return (
            f"no query can have a match{under}: none of their persons is in the gallery",
            "give images of the same person the same identity in query and gallery",
        )
    if _any_match(same_camera, query, gallery):
        return (
            f"no query can have a match{under}: all gallery images of their persons are of the "
            "query's own camera, which is left out of a ranking",
            "leave the camera labels out (--dataset folder) to let images of the same camera match",
        )
    return (
        f"no query can have a match{under}: the gallery has no image of their persons with the "
        "camera and clothes of a match",
        "check the camera and clothes labels of query and gallery",
    )


def matched_queries(protocol: Protocol, query: Labels, gallery: Labels) -> tuple[Tensor, Tensor]:
    """Whether each query takes part in a protocol, and whether it has a match there, (Q,) each."""
    matched = torch.zeros_like(query["identity"], dtype=torch.bool)
    for queries, found in _by_identity(protocol, query, gallery):
        matched[queries] = found
    return filter_mask(query, protocol.queries), matched


def _any_match(protocols: Sequence[Protocol], query: Labels, gallery: Labels) -> bool:
    return any(
        bool(found.any())
        for protocol in protocols
        for _, found in _by_identity(protocol, query, gallery)
    )


def _by_identity(
    protocol: Protocol, query: Labels, gallery: Labels
) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries of an identity that take part, as indices, and whether each has a match."""
    kept = [filter_mask(query, protocol.queries), filter_mask(gallery, protocol.gallery)]
    for identity in sorted(set(query["identity"][kept[0]].tolist())):
        queries, items = (
            (mask & (part["identity"] == identity)).nonzero().view(-1)
            for mask, part in zip(kept, (query, gallery), strict=True)
        )
        one = {name: values[queries, None] for name, values in query.items()}
        other = {name: values[items] for name, values in gallery.items()}
        yield queries, is_match(protocol, one, other).any(dim=1)
