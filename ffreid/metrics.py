"""Metrics of both tasks on arrays, as the papers' toolboxes compute them.

Pose: `add`, `adds`, `keypoint_error`, `auc` and `accuracy_below` of single poses or distances
(metres), and `score_poses`, the PoseCNN protocol. Re-identification: `score_search` for CMC, mAP
and mINP under the clothes-changing protocols, and `rerank`.
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
from ffreid.reid.retrieval.features import check_features, unit
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


def score_poses(
    names: Sequence[str],
    predicted: npt.ArrayLike,
    true: npt.ArrayLike,
    models: Mapping[str, npt.ArrayLike],
    *,
    symmetric: Sequence[str] = (),
) -> dict[str, Any]:
    """Score poses by the PoseCNN protocol: ADD and ADD-S, AUC up to 10 cm, accuracies.

    Args:
        names: (M,) object of each pose.
        predicted: (M, 3, 4) metres; NaN for an undetected object, which is scored at the zero
            pose as in the original.
        true: (M, 3, 4) metres.
        models: (P, 3) points of each object, metres, object frame.
        symmetric: objects that ADD(-S) scores by ADD-S.

    Returns:
        ``classes``: percentages and counts by object; ``pooled``: of all instances, the papers'
        ALL; ``mean_of_present_classes``; ``mean_of_all_classes``, where objects of `models` that
        `names` lacks count 0. Rows hold ``ADD_auc``, ``ADD-S_auc``, ``ADD(-S)_auc``,
        ``ADD(-S)<0.1d`` and others, ``instances`` and ``missed``.

    Raises:
        UserError: shapes do not match, or an object has no model.

    Example:
        >>> scores = ffreid.metrics.score_poses(["can"], [pose], [truth], {"can": points})
        >>> scores["pooled"]["ADD-S_auc"]
        98.4
    """
    poses, gt_poses = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    expected = (len(names), 3, 4)
    for argument, array in (("predicted", poses), ("true", gt_poses)):
        if array.shape != expected:
            raise UserError(
                f"{argument} has shape {array.shape}, expected {expected} for {len(names)} names",
                "pass a name and a (3, 4) pose per object",
            )
    if not np.isfinite(gt_poses).all():
        raise UserError("true contains NaN or infinity", "remove those poses")
    if np.isinf(poses).any():
        raise UserError("predicted contains infinity", "use NaN for undetected objects")
    for name in (*names, *symmetric):
        if name not in models:
            hint = f"models contains: {', '.join(models) or 'nothing'}"
            raise UserError(f"no model of {name!r}", hint)
    for name, model in models.items():
        shape = np.shape(model)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != 3:
            raise UserError(f"the model of {name!r} has shape {shape}", "pass points (P, 3)")
    meshes = {i: np.asarray(points, np.float64) for i, points in enumerate(models.values(), 1)}
    class_ids = {name: i for i, name in enumerate(models, 1)}
    objects = ObjectModels(
        dataset="",
        names=tuple(models),
        numbers=tuple(class_ids.values()),
        keypoints=np.zeros((len(models), 0, 3), np.float32),
        corners=np.zeros((len(models), 8, 3), np.float32),
        radii=None,
        diameters=None,
        symmetric=frozenset(class_ids[name] for name in symmetric),
    )
    trees = mesh_trees(meshes)
    scores = []
    for index, (name, pose, gt) in enumerate(zip(names, poses, gt_poses, strict=True)):
        class_id = class_ids[name]
        points, detected = meshes[class_id], not bool(np.isnan(pose).any())
        pose = pose if detected else np.zeros((3, 4))
        errors = (add(points, pose, gt), adds(points, pose, gt, tree=trees[class_id]), 0.0)
        scores.append(InstanceScore(index, "", class_id, detected, detected, *errors))
    summary = summarise(scores, objects, diameters(objects, meshes))
    for row in (summary["pooled"], *summary["classes"].values()):
        for key in ("keypoint_error_m", "keypoint_error_detected_m"):
            row.pop(key)
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
    """Search a gallery by cosine distance and score the ranking as ``ffreid eval`` does.

    Args:
        query: (Q, D) features, of any length.
        gallery: (G, D) features.
        query_labels: (Q,) integers: ``identity``, and if known ``camera`` and ``clothes``.
        gallery_labels: (G,) the same.
        protocols: `STANDARD` are general (junk: same camera), SC (same clothes only) and CC
            (different clothes only).
        reranked: order by `rerank` instead of the cosine.

    Returns:
        By protocol: ``rank1``, ``rank5``, ``rank10``, ``rank20``, ``map``, ``minp`` as fractions
        (NaN if no query has a match), the number of queries with a match (``valid``) and without
        (``skipped``). Protocols whose labels are not known are omitted.

    Raises:
        UserError: shapes do not match, features are not finite, or no protocol can be used.

    Example:
        >>> labels = {"identity": [1, 2], "camera": [0, 0], "clothes": [1, 5]}
        >>> others = {"identity": [1, 2], "camera": [1, 1], "clothes": [2, 6]}
        >>> ffreid.metrics.score_search(a, b, labels, others)["CC"]["rank1"]
        1.0
    """
    queries, items = _features(query, gallery)
    labels = dict[str, Labels]()
    parts = (("query", query_labels, queries), ("gallery", gallery_labels, items))
    for name, columns, features in parts:
        if "identity" not in columns:
            raise UserError(
                f"the {name} labels have {', '.join(columns) or 'nothing'}, but no identity",
                "pass identity, and camera and clothes if known",
            )
        labels[name] = label_columns(**columns)
        if len(features) != len(labels[name]["identity"]):
            raise UserError(
                f"{len(features)} {name} features, {len(labels[name]['identity'])} identities",
                "pass one identity per feature",
            )
    usable, lacking = usable_protocols(protocols, labels["query"], labels["gallery"])
    if not usable:
        needs = "; ".join(f"{name} needs {', '.join(some)}" for name, some in lacking.items())
        raise UserError(
            f"no protocol can be used: {needs or 'protocols is empty'}",
            "pass these labels for query and gallery",
        )
    distances = reranking.rerank(queries, items) if reranked else cosine_distances(queries, items)
    return {
        ranking.name: {
            **{f"rank{k}": ranking.cmc(k) for k in RANKS},
            "map": ranking.mean_average_precision,
            "minp": ranking.mean_inverse_penalty,
            "valid": ranking.n_valid,
            "skipped": ranking.n_skipped,
        }
        for ranking in rank(distances, labels["query"], labels["gallery"], usable)
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
        weight: of the original distance (lambda).

    Returns:
        (Q, G) distances.

    Raises:
        UserError: shapes do not match, or features are not finite.

    Example:
        >>> order = ffreid.metrics.rerank(query, gallery).argsort(axis=1)
    """
    queries, items = _features(query, gallery)
    distances_of = reranking.rerank(queries, items, k1=k1, k2=k2, weight=weight)
    distances: npt.NDArray[np.floating] = distances_of(0, len(queries)).numpy()
    return distances


def _features(
    query: npt.ArrayLike | Tensor, gallery: npt.ArrayLike | Tensor
) -> tuple[Tensor, Tensor]:
    """Return both as unit features on the CPU, float64 if one of them is, else float32."""
    arrays = {"query": query, "gallery": gallery}
    tensors = {name: torch.as_tensor(value).detach().cpu() for name, value in arrays.items()}
    shapes = [tuple(features.shape) for features in tensors.values()]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise UserError(
            f"query has shape {shapes[0]}, gallery {shapes[1]}", "pass features (Q, D) and (G, D)"
        )
    double = any(features.dtype == torch.float64 for features in tensors.values())
    for name, features in tensors.items():
        if not len(features):
            raise UserError(f"the {name} is empty", "pass at least one feature")
        tensors[name] = features.to(torch.float64 if double else torch.float32)
        check_features(tensors[name], name)
    return unit(tensors["query"]), unit(tensors["gallery"])
