"""The metrics of both tasks on plain arrays, as the papers' toolboxes compute them.

Pose: `add`, `adds`, `keypoint_error`, `auc`, `accuracy_below` of single poses and of distances
(metres), and `score_poses`, the PoseCNN protocol over many. Re-identification: `score_search` for
CMC, mAP and mINP under the protocols of clothes-changing search, and `rerank`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffreid.errors import UserError
from ffreid.pose.metrics import accuracy_below, add, adds, auc, keypoint_error
from ffreid.pose.objects import ObjectModels
from ffreid.pose.scoring import InstanceScore, diameters, mesh_trees, summarise
from ffreid.reid.retrieval import reranking
from ffreid.reid.retrieval.features import check_finite, unit
from ffreid.reid.retrieval.protocols import (
    STANDARD,
    Labels,
    Protocol,
    label_columns,
    usable_protocols,
)
from ffreid.reid.retrieval.ranking import cosine_distances, rank
from ffreid.reid.retrieval.scores import RANKS

__all__ = [
    "STANDARD",
    "Protocol",
    "accuracy_below",
    "add",
    "adds",
    "auc",
    "keypoint_error",
    "rerank",
    "score_poses",
    "score_search",
]

_KEYPOINTS = ("keypoint_error_m", "keypoint_error_detected_m")


def score_poses(
    names: Sequence[str],
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    models: Mapping[str, npt.ArrayLike],
    *,
    symmetric: Sequence[str] = (),
) -> dict[str, Any]:
    """Score poses by the PoseCNN protocol: ADD and ADD-S, areas up to 10 cm, shares below limits.

    Args:
        names: M, which object each pose is of.
        predicted: (M, 3, 4) metres; NaN where the object was not found, which is scored at the
            zero pose as the original does.
        true: (M, 3, 4) metres.
        models: (P, 3) points of each object, metres, object's frame.
        symmetric: objects that ADD(-S) scores by ADD-S.

    Returns:
        ``classes``: a row of percentages and counts by object; ``pooled``: all instances, the
        papers' ALL; ``mean_of_present_classes``; ``mean_of_all_classes``, where objects of
        `models` that `names` lacks count 0. Rows hold ``ADD_auc``, ``ADD-S_auc``, ``ADD(-S)_auc``,
        ``ADD(-S)<0.1d`` and others, ``instances`` and ``missed``.

    Raises:
        UserError: shapes do not fit together, or an object has no model.

    Example:
        >>> scores = ffreid.metrics.score_poses(["can"], [pose], [truth], {"can": points})
        >>> scores["pooled"]["ADD-S_auc"]
        98.4
    """
    mesh = {i: np.asarray(points, np.float64) for i, points in enumerate(models.values(), 1)}
    found, truth = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    _check_poses(names, found, truth, models, symmetric)
    objects = _objects(tuple(models), symmetric)
    trees, numbers = mesh_trees(mesh), {name: i for i, name in enumerate(models, 1)}
    scores = []
    for index, name in enumerate(names):
        class_id, detected = numbers[name], not bool(np.isnan(found[index]).any())
        pose = found[index] if detected else np.zeros((3, 4))
        points, tree = mesh[class_id], trees[class_id]
        scores.append(
            InstanceScore(
                index=index,
                frame="",
                class_id=class_id,
                detected=detected,
                solved=detected,
                add=add(points, pose, truth[index]),
                adds=adds(points, pose, truth[index], tree=tree),
                keypoint_error=0.0,
            )
        )
    return _without_keypoints(summarise(scores, objects, diameters(objects, mesh)))


def _check_poses(
    names: Sequence[str],
    predicted: npt.NDArray[Any],
    true: npt.NDArray[Any],
    models: Mapping[str, npt.ArrayLike],
    symmetric: Sequence[str],
) -> None:
    wanted = (len(names), 3, 4)
    for what, poses in (("predicted", predicted), ("true", true)):
        if poses.shape != wanted:
            raise UserError(
                f"{what} has shape {poses.shape}, {len(names)} names {wanted}",
                "give a (3, 4) pose a name",
            )
    if not np.isfinite(true).all():
        raise UserError("true holds NaN or infinity", "leave those poses out")
    if np.isinf(predicted).any():
        raise UserError("predicted holds infinity", "give NaN where an object was not found")
    for name in (*names, *symmetric):
        if name not in models:
            raise UserError(f"no model of {name!r}", f"models has: {', '.join(models) or 'none'}")
    for name, points in models.items():
        shape = np.shape(points)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != 3:
            raise UserError(f"the model of {name!r} has shape {shape}", "give points (P, 3)")


def _objects(names: tuple[str, ...], symmetric: Sequence[str]) -> ObjectModels:
    """Name classes for the summary, which asks for no keypoints."""
    return ObjectModels(
        dataset="",
        names=names,
        numbers=tuple(range(1, len(names) + 1)),
        keypoints=np.zeros((len(names), 0, 3), np.float32),
        corners=np.zeros((len(names), 8, 3), np.float32),
        radii=None,
        diameters=None,
        symmetric=frozenset(names.index(name) + 1 for name in symmetric),
    )


def _without_keypoints(summary: dict[str, Any]) -> dict[str, Any]:
    for row in (summary["pooled"], *summary["classes"].values()):
        for name in _KEYPOINTS:
            row.pop(name)
    del summary["dataset"]
    return summary


def score_search(
    query: npt.ArrayLike | Tensor,
    gallery: npt.ArrayLike | Tensor,
    query_labels: Mapping[str, npt.ArrayLike],
    gallery_labels: Mapping[str, npt.ArrayLike],
    *,
    protocols: Sequence[Protocol] = STANDARD,
    reranked: bool = False,
) -> dict[str, dict[str, float]]:
    """Search a gallery by the cosine and score that as ``ffreid eval`` does.

    Args:
        query: (Q, D) features, of any length.
        gallery: (G, D) features.
        query_labels: (Q,) whole numbers: ``identity``, and as far as known ``camera``, ``clothes``.
        gallery_labels: (G,) the same.
        protocols: `STANDARD` are general (junk: same camera), SC (the outfit must be the same)
            and CC (it must be another).
        reranked: order by `rerank` instead of the cosine.

    Returns:
        By protocol's name: ``rank1``, ``rank5``, ``rank10``, ``rank20``, ``map``, ``minp`` as
        shares of the queries with a match (NaN where there are none), their number ``valid``, and
        ``skipped``, the number of those without. Protocols whose labels are not known are left
        out.

    Raises:
        UserError: shapes do not fit together, features are not finite, or no protocol can be used.

    Example:
        >>> labels = {"identity": [1, 2], "camera": [0, 0], "clothes": [1, 5]}
        >>> others = {"identity": [1, 2], "camera": [1, 1], "clothes": [2, 6]}
        >>> ffreid.metrics.score_search(a, b, labels, others)["CC"]["rank1"]
        1.0
    """
    ours, theirs = _features(query, gallery)
    asked, known = _columns(query_labels, "query"), _columns(gallery_labels, "gallery")
    usables, lacking = usable_protocols(protocols, asked, known)
    if not usables:
        needs = "; ".join(f"{name} needs {', '.join(some)}" for name, some in lacking.items())
        raise UserError(
            f"no protocol can be used: {needs or 'there is none'}",
            "give these labels for query and gallery",
        )
    for name, features, labels in (("query", ours, asked), ("gallery", theirs, known)):
        if len(features) != len(labels["identity"]):
            raise UserError(
                f"{len(features)} {name} features have {len(labels['identity'])} identities",
                "give a label an item",
            )
    give = reranking.rerank(ours, theirs) if reranked else cosine_distances(ours, theirs)
    return {
        ranking.name: {
            **{f"rank{k}": ranking.cmc(k) for k in RANKS},
            "map": ranking.mean_average_precision,
            "minp": ranking.mean_inverse_penalty,
            "valid": ranking.n_valid,
            "skipped": ranking.n_skipped,
        }
        for ranking in rank(give, asked, known, usables)
    }


def rerank(
    query: npt.ArrayLike | Tensor,
    gallery: npt.ArrayLike | Tensor,
    *,
    k1: int = reranking.K1,
    k2: int = reranking.K2,
    weight: float = reranking.WEIGHT,
) -> npt.NDArray[np.floating]:
    """Re-rank by k-reciprocal neighbours (Zhong et al., CVPR 2017).

    Args:
        query: (Q, D) features, of any length.
        gallery: (G, D) features.
        k1: neighbours that must be mutual.
        k2: nearest items whose encodings are averaged.
        weight: share of the original distance (lambda).

    Returns:
        (Q, G) distances, smaller is nearer.

    Raises:
        UserError: shapes do not fit together, or features are not finite.

    Example:
        >>> order = ffreid.metrics.rerank(query, gallery).argsort(axis=1)
    """
    ours, theirs = _features(query, gallery)
    give = reranking.rerank(ours, theirs, k1=k1, k2=k2, weight=weight)
    distances: npt.NDArray[np.floating] = give(0, len(ours)).numpy()
    return distances


def _features(
    query: npt.ArrayLike | Tensor, gallery: npt.ArrayLike | Tensor
) -> tuple[Tensor, Tensor]:
    """Give both as unit features on the CPU, float32, or float64 where one of them is."""
    ours, theirs = (torch.as_tensor(value).detach().cpu() for value in (query, gallery))
    if ours.dim() != 2 or theirs.dim() != 2 or ours.shape[1] != theirs.shape[1]:
        raise UserError(
            f"query is {tuple(ours.shape)}, gallery {tuple(theirs.shape)}",
            "give features (Q, D) and (G, D)",
        )
    for name, features in (("query", ours), ("gallery", theirs)):
        if not len(features):
            raise UserError(f"the {name} is empty", "give features (N, D) with N from 1 on")
    dtype = torch.float64 if torch.float64 in (ours.dtype, theirs.dtype) else torch.float32
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    check_finite(ours, "query")
    check_finite(theirs, "gallery")
    return unit(ours), unit(theirs)


def _columns(labels: Mapping[str, npt.ArrayLike], name: str) -> Labels:
    if "identity" not in labels:
        raise UserError(
            f"the {name} labels have {', '.join(labels) or 'nothing'}, no identity",
            "give identity, and as far as known camera and clothes",
        )
    return label_columns(**labels)
