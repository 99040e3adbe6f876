"""The metrics on plain arrays give what an evaluation computes."""

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
    """The identity, moved by `shift` metres to the right."""
    return np.column_stack([np.eye(3), [shift, 0, 0]])


def scored(names: list[str], shifts: list[float], **options: Any) -> dict[str, Any]:
    found = [pose(shift) for shift in shifts]
    return metrics.score_poses(names, found, [pose(0)] * len(names), MODELS, **options)


def test_poses_are_pooled_over_all_instances() -> None:
    found = scored(["can", "can", "ball"], [0.01, 0.03, 0.02])
    pooled, can = found["pooled"], found["classes"]["can"]
    assert pooled["ADD_auc"] == pytest.approx(metrics.auc([0.01, 0.03, 0.02]))
    assert can["ADD_auc"] == pytest.approx(metrics.auc([0.01, 0.03]))
    assert (pooled["instances"], can["instances"], pooled["missed"]) == (3, 2, 0)
    assert set(found["classes"]) == {"can", "ball"}
    means = [found[name]["ADD_auc"] for name in ("mean_of_present_classes", "mean_of_all_classes")]
    both = can["ADD_auc"] + found["classes"]["ball"]["ADD_auc"]
    assert means == pytest.approx([both / 2, both / 3])


def test_a_symmetric_object_is_scored_by_its_nearest_points() -> None:
    plain = scored(["can", "can"], [0.02, 0.05])
    symmetric = scored(["can", "can"], [0.02, 0.05], symmetric=["can"])
    assert plain["pooled"]["ADD(-S)_auc"] == plain["pooled"]["ADD_auc"]
    assert symmetric["pooled"]["ADD(-S)_auc"] == symmetric["pooled"]["ADD-S_auc"]
    assert symmetric["pooled"]["ADD-S_auc"] > symmetric["pooled"]["ADD_auc"]


def test_an_object_that_was_not_found_is_missed() -> None:
    found = [pose(0), np.full((3, 4), np.nan)]
    row = metrics.score_poses(["can", "can"], found, [pose(0), pose(1)], MODELS)["pooled"]
    assert (row["instances"], row["missed"]) == (2, 1)
    assert row["ADD-S<2cm"] == 50


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"names": ["can", "can"]}, r"predicted has shape \(1, 3, 4\), 2 names \(2, 3, 4\)"),
        ({"true": [np.eye(4)]}, r"true has shape \(1, 4, 4\)"),
        ({"true": [pose(np.nan)]}, "true holds NaN"),
        ({"predicted": [pose(np.inf)]}, "predicted holds infinity"),
        ({"names": ["cat"]}, "no model of 'cat'"),
        ({"symmetric": ["cat"]}, "no model of 'cat'"),
        ({"models": {"can": POINTS[0]}}, r"the model of 'can' has shape \(3,\)"),
    ],
)
def test_poses_that_cannot_be_scored_are_named(change: dict[str, Any], error: str) -> None:
    whole: dict[str, Any] = {"names": ["can"], "predicted": [pose(0)], "true": [pose(0)]}
    whole["models"] = MODELS
    with pytest.raises(UserError, match=error):
        metrics.score_poses(**(whole | change))


QUERIES, ITEMS, IDENTITIES = 12, 60, 6


def people(count: int, seed: int) -> tuple[npt.NDArray[np.float32], dict[str, list[int]]]:
    """Features that tell identities apart, not too well, and their labels."""
    generator = np.random.default_rng(seed)
    columns = {"identity": IDENTITIES, "camera": 3, "clothes": 3}
    labels = {name: generator.integers(0, n, count).tolist() for name, n in columns.items()}
    features = np.eye(IDENTITIES, 16)[labels["identity"]] + generator.normal(size=(count, 16)) / 2
    return features.astype(np.float32), labels


QUERY, QUERY_LABELS = people(QUERIES, 1)
GALLERY, GALLERY_LABELS = people(ITEMS, 2)


@pytest.mark.parametrize("reranked", [False, True])
def test_a_search_scores_as_the_plain_form_does(reranked: bool) -> None:
    found = metrics.score_search(QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS, reranked=reranked)
    both = unit(torch.from_numpy(np.concatenate([QUERY, GALLERY])))
    distances = 1 - both[:QUERIES] @ both[QUERIES:].T
    if reranked:
        distances = torch.from_numpy(reference_rerank(both.double().numpy(), QUERIES))
    assert list(found) == ["general", "SC", "CC"]
    query, gallery = label_columns(**QUERY_LABELS), label_columns(**GALLERY_LABELS)
    for protocol in STANDARD:
        told, row = reference_rank(distances, query, gallery, protocol), found[protocol.name]
        expected = {f"rank{k}": told.curve[k - 1] for k in (1, 5, 10, 20)}
        expected |= {"map": told.precision.mean(), "minp": told.penalty.mean()}
        expected |= {"valid": len(told.precision), "skipped": told.n_skipped}
        assert row == pytest.approx(expected)
        assert row["valid"] > 0
        assert row["rank1"] < 1


def test_tensors_and_features_of_any_length_do() -> None:
    expected = metrics.score_search(QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS)
    scaled = torch.from_numpy(QUERY).requires_grad_() * 3
    found = metrics.score_search(scaled, GALLERY.tolist(), QUERY_LABELS, GALLERY_LABELS)
    for name, row in expected.items():
        assert found[name] == pytest.approx(row)


def test_protocols_without_labels_are_left_out() -> None:
    known = [
        {name: labels[name] for name in ("identity", "camera")}
        for labels in (QUERY_LABELS, GALLERY_LABELS)
    ]
    assert list(metrics.score_search(QUERY, GALLERY, *known)) == ["general"]


def test_reranking_gives_the_dense_formulas_distances() -> None:
    both = unit(torch.from_numpy(np.concatenate([QUERY, GALLERY])).double()).numpy()
    found = metrics.rerank(both[:QUERIES], both[QUERIES:], k1=7, k2=3, weight=0.2)
    expected = reference_rerank(both, QUERIES, k1=7, k2=3, weight=0.2)
    assert found.shape == (QUERIES, ITEMS)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"query": QUERY[0]}, r"query is \(16,\), gallery \(60, 16\)"),
        ({"query": QUERY[:, :8]}, r"query is \(12, 8\)"),
        ({"gallery": GALLERY[:0]}, "the gallery is empty"),
        ({"gallery": GALLERY[1:]}, "59 gallery features have 60 identities"),
        ({"query": QUERY * np.float32(np.nan)}, "12 of 12 query features hold NaN"),
        ({"query_labels": {"camera": [1] * QUERIES}}, "labels have camera, no identity"),
        ({"query_labels": {"identity": [1] * QUERIES}}, "general needs camera"),
        ({"query_labels": {**QUERY_LABELS, "camera": [1]}}, "'camera' has 1 entries, 12"),
    ],
)
def test_a_search_that_cannot_be_scored_is_named(change: dict[str, Any], error: str) -> None:
    whole: dict[str, Any] = {
        "query": QUERY,
        "gallery": GALLERY,
        "query_labels": QUERY_LABELS,
        "gallery_labels": GALLERY_LABELS,
    }
    with pytest.raises(UserError, match=error):
        metrics.score_search(**(whole | change))
