"""Metrics of arrays equal those of an evaluation."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ffreid import metrics
from ffreid.bench.reference_retrieval import reference_rank, reference_rerank
from ffreid.errors import UserError
from ffreid.reid.retrieval.features import unit
from ffreid.reid.retrieval.protocols import STANDARD, label_columns

POINTS = np.random.default_rng(0).normal(size=(50, 3)) * 0.05
MODELS = {"can": POINTS, "ball": POINTS * 2, "box": POINTS * 3}


def pose(shift: float) -> npt.NDArray[np.float64]:
    """Return the identity, moved by `shift` metres to the right."""
    return np.column_stack([np.eye(3), [shift, 0, 0]])


def score(names: list[str], shifts: list[float], **options: Any) -> dict[str, Any]:
    poses = [pose(shift) for shift in shifts]
    return metrics.score_poses(names, poses, [pose(0)] * len(names), MODELS, **options)


def test_poses_are_pooled_over_all_instances() -> None:
    scores = score(["can", "can", "ball"], [0.01, 0.03, 0.02])
    pooled, can = scores["pooled"], scores["classes"]["can"]
    assert pooled["ADD_auc"] == pytest.approx(metrics.auc([0.01, 0.03, 0.02]))
    assert can["ADD_auc"] == pytest.approx(metrics.auc([0.01, 0.03]))
    assert (pooled["instances"], can["instances"], pooled["missed"]) == (3, 2, 0)
    assert set(scores["classes"]) == {"can", "ball"}
    means = [scores[name]["ADD_auc"] for name in ("mean_of_present_classes", "mean_of_all_classes")]
    total = can["ADD_auc"] + scores["classes"]["ball"]["ADD_auc"]
    assert means == pytest.approx([total / 2, total / 3])


def test_a_symmetric_object_is_scored_by_its_nearest_points() -> None:
    asymmetric = score(["can", "can"], [0.02, 0.05])["pooled"]
    symmetric = score(["can", "can"], [0.02, 0.05], symmetric=["can"])["pooled"]
    assert asymmetric["ADD(-S)_auc"] == asymmetric["ADD_auc"]
    assert symmetric["ADD(-S)_auc"] == symmetric["ADD-S_auc"] > symmetric["ADD_auc"]


def test_an_undetected_object_is_missed() -> None:
    poses = [pose(0), np.full((3, 4), np.nan)]
    row = metrics.score_poses(["can", "can"], poses, [pose(0), pose(1)], MODELS)["pooled"]
    assert (row["instances"], row["missed"], row["ADD-S<2cm"]) == (2, 1, 50)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"names": ["can", "can"]}, r"predicted has shape \(1, 3, 4\), expected \(2, 3, 4\)"),
        ({"true": [np.eye(4)]}, r"true has shape \(1, 4, 4\)"),
        ({"true": [pose(np.nan)]}, "true contains NaN"),
        ({"predicted": [pose(np.inf)]}, "predicted contains infinity"),
        ({"names": ["cat"]}, "no model of 'cat'"),
        ({"symmetric": ["cat"]}, "no model of 'cat'"),
        ({"models": {"can": POINTS[0]}}, r"the model of 'can' has shape \(3,\)"),
    ],
)
def test_invalid_poses_are_errors(change: dict[str, Any], error: str) -> None:
    arguments: dict[str, Any] = {"names": ["can"], "predicted": [pose(0)], "true": [pose(0)]}
    with pytest.raises(UserError, match=error):
        metrics.score_poses(**(arguments | {"models": MODELS} | change))


QUERIES, ITEMS, IDENTITIES = 12, 60, 6


def synthetic(count: int, seed: int) -> tuple[npt.NDArray[np.float32], dict[str, list[int]]]:
    """Return features that separate identities imperfectly, and their labels."""
    generator = np.random.default_rng(seed)
    columns = {"identity": IDENTITIES, "camera": 3, "clothes": 3}
    labels = {name: generator.integers(0, n, count).tolist() for name, n in columns.items()}
    features = np.eye(IDENTITIES, 16)[labels["identity"]] + generator.normal(size=(count, 16)) / 2
    return features.astype(np.float32), labels


QUERY, QUERY_LABELS = synthetic(QUERIES, 1)
GALLERY, GALLERY_LABELS = synthetic(ITEMS, 2)


@pytest.mark.parametrize("reranked", [False, True])
def test_search_scores_equal_the_reference(reranked: bool) -> None:
    scores = metrics.score_search(QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS, reranked=reranked)
    both = unit(torch.from_numpy(np.concatenate([QUERY, GALLERY])))
    distances = 1 - both[:QUERIES] @ both[QUERIES:].T
    if reranked:
        distances = torch.from_numpy(reference_rerank(both.double().numpy(), QUERIES))
    assert list(scores) == ["general", "SC", "CC"]
    query, gallery = label_columns(**QUERY_LABELS), label_columns(**GALLERY_LABELS)
    for protocol in STANDARD:
        reference = reference_rank(distances, query, gallery, protocol)
        row = scores[protocol.name]
        expected = {f"rank{k}": reference.curve[k - 1] for k in (1, 5, 10, 20)}
        expected |= {"map": reference.precision.mean(), "minp": reference.penalty.mean()}
        expected |= {"valid": len(reference.precision), "skipped": reference.n_skipped}
        assert row == pytest.approx(expected)
        assert row["valid"] > 0
        assert row["rank1"] < 1


def test_features_may_be_tensors_or_lists_of_any_length() -> None:
    expected = metrics.score_search(QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS)
    scaled = torch.from_numpy(QUERY).requires_grad_() * 3
    scores = metrics.score_search(scaled, GALLERY.tolist(), QUERY_LABELS, GALLERY_LABELS)
    for name, row in expected.items():
        assert scores[name] == pytest.approx(row)


def test_reranking_gives_the_distances_of_the_dense_formula() -> None:
    both = unit(torch.from_numpy(np.concatenate([QUERY, GALLERY])).double()).numpy()
    distances = metrics.rerank(both[:QUERIES], both[QUERIES:], k1=7, k2=3, weight=0.2)
    expected = reference_rerank(both, QUERIES, k1=7, k2=3, weight=0.2)
    np.testing.assert_allclose(distances, expected, atol=1e-9, strict=True)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"query": QUERY[0]}, r"query has shape \(16,\), gallery \(60, 16\)"),
        ({"query": QUERY[:, :8]}, r"query has shape \(12, 8\)"),
        ({"gallery": GALLERY[:0]}, "the gallery is empty"),
        ({"gallery": GALLERY[1:]}, "59 gallery features, 60 identities"),
        ({"query": QUERY * np.float32(np.nan)}, "12 of 12 query features are NaN"),
        ({"query_labels": {"camera": [1] * QUERIES}}, "labels have camera, but no identity"),
        ({"query_labels": {"identity": [1] * QUERIES}}, "general needs camera"),
        (
            {"query_labels": {**QUERY_LABELS, "camera": [1]}},
            "'camera' of the query has 1 entries, expected 12",
        ),
    ],
)
def test_an_invalid_search_is_an_error(change: dict[str, Any], error: str) -> None:
    labels = {"query_labels": QUERY_LABELS, "gallery_labels": GALLERY_LABELS}
    with pytest.raises(UserError, match=error):
        metrics.score_search(**({"query": QUERY, "gallery": GALLERY} | labels | change))
