"""Rows of the table: every protocol, small galleries, re-ranking, published results."""

from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

from ffreid.errors import UserError
from ffreid.reid.published import PublishedResult
from ffreid.reid.retrieval.protocols import GENERAL, STANDARD, between
from ffreid.reid.retrieval.ranking import cosine_distances, rank
from ffreid.reid.retrieval.reranking import rerank
from ffreid.reid.scoring import score_protocols
from ffreid.reid.table import COLUMNS, as_json, query_rows, table
from tests.reid.synthetic_features import labelled_features, synthetic_features

CPU = torch.device("cpu")
TRIALS = tuple(tuple(range(offset, 24, 6)) for offset in (0, 1, 2))
PAIR = between("two cameras", (0,), (1, 2))


def test_each_protocol_is_scored_on_the_same_features() -> None:
    extracted = synthetic_features()
    rows = score_protocols(extracted, CPU)
    features = extracted.query.features, extracted.gallery.features
    expected = rank(cosine_distances(*features), *extracted.labels(CPU), STANDARD)
    assert [row.title for row in rows] == ["general", "SC", "CC"]
    for row, ranking in zip(rows, expected, strict=True):
        assert row.scores.cmc[1] == ranking.cmc(1)
        assert row.scores.mean_average_precision == ranking.mean_average_precision
        assert row.scores.n_valid == ranking.n_valid > 0


def test_an_error_lists_the_labels_that_each_protocol_lacks() -> None:
    with pytest.raises(UserError, match="general needs camera; SC needs camera, clothes"):
        score_protocols(synthetic_features(columns=()), CPU)


def test_single_shot_galleries_give_mean_and_deviation() -> None:
    extracted = synthetic_features(protocols=(GENERAL,), single_shot=TRIALS)
    row = score_protocols(extracted, CPU)[1]
    parts = [
        score_protocols(
            replace(
                extracted, gallery=extracted.gallery.select(torch.tensor(trial)), single_shot=()
            ),
            CPU,
        )
        for trial in TRIALS
    ]
    first = [selected[0].scores.cmc[1] for selected in parts]
    precision = [selected[0].scores.mean_average_precision for selected in parts]
    assert row.title == "general, single-shot"
    assert (row.trials, row.comparable) == (3, False)
    assert row.scores.cmc[1] == pytest.approx(fmean(first))
    assert row.deviation == pytest.approx((stdev(first), stdev(precision)))


def test_re_ranked_rows_are_marked_and_never_compared() -> None:
    extracted = synthetic_features(protocols=(GENERAL,))
    (row,) = score_protocols(extracted, CPU, reranked=True)
    assert row.title == "general, with re-ranking"
    assert not row.comparable
    distances = rerank(extracted.query.features, extracted.gallery.features)
    (expected,) = rank(distances, *extracted.labels(CPU), [GENERAL])
    assert row.scores.mean_average_precision == expected.mean_average_precision


def test_re_ranking_ignores_images_outside_the_protocol() -> None:
    extracted = synthetic_features(protocols=(PAIR,))
    queries = (extracted.query.labels["camera"] == 0).nonzero().view(-1)
    items = (extracted.gallery.labels["camera"] != 0).nonzero().view(-1)
    restricted = replace(
        extracted, query=extracted.query.select(queries), gallery=extracted.gallery.select(items)
    )
    complete, selected = (
        score_protocols(one, CPU, reranked=True)[0] for one in (extracted, restricted)
    )
    assert complete.scores == selected.scores
    assert complete.ranking is not None and selected.ranking is not None
    assert torch.equal(complete.ranking.first[queries], selected.ranking.first)
    assert len(complete.ranking.first) == len(extracted.query)


def test_published_results_and_differences_are_columns() -> None:
    rows = score_protocols(synthetic_features(), CPU)
    ours = 100 * rows[2].scores.cmc[1], 100 * rows[2].scores.mean_average_precision
    cells = table(rows, {"CC": PublishedResult(0.401, 0.18, "recalled", 8)})
    named = dict(zip(COLUMNS, cells[2], strict=True))
    assert named["published"] == "40.1 / 18.0 (recalled)"
    assert named["difference"] == f"{ours[0] - 40.1:+.1f} / {ours[1] - 18.0:+.1f}"
    assert named["rank-1"] == ours[0]
    assert dict(zip(COLUMNS, cells[0], strict=True))["difference"] is None


def test_the_interval_and_the_numbers_of_queries_are_told() -> None:
    row = score_protocols(synthetic_features(), CPU)[2]
    named = dict(zip(COLUMNS, table([row], {})[0], strict=True))
    assert (named["published"], named["difference"]) == (None, None)
    assert row.scores.rank1_interval is not None
    low, high = row.scores.rank1_interval
    assert str(named["95 % interval"]).startswith(f"{100 * low:.1f}–{100 * high:.1f} / ")
    assert named["valid queries"] == f"{row.scores.n_valid} ({row.scores.n_skipped} skipped)"


@pytest.mark.parametrize(
    ("protocol", "said"), [(GENERAL, "none: 2 without a match"), (between("x", (5,), (0,)), "none")]
)
def test_a_row_without_valid_query_says_so_instead_of_numbers(protocol: object, said: str) -> None:
    search = synthetic_features(protocols=(protocol,))  # type: ignore[arg-type]
    strangers = labelled_features(search.query.features[:2], [77, 78], [0, 1], [0, 0], "query")
    (row,) = score_protocols(replace(search, query=strangers), CPU)
    (cells,) = table([row], {protocol.name: PublishedResult(0.5, 0.5, "paper", 8)})  # type: ignore[attr-defined]
    assert cells == [row.title, *[None] * (len(COLUMNS) - 2), said]


def test_json_has_unrounded_results_by_title() -> None:
    rows = score_protocols(synthetic_features(single_shot=TRIALS), CPU)
    payload = as_json(rows, {"CC": PublishedResult(0.401, 0.18, "paper", 8)}, 8)
    assert list(payload) == [row.title for row in rows]
    assert payload["CC"]["mAP"] == rows[2].scores.mean_average_precision
    assert payload["CC"]["published"]["rank1"] == 0.401
    assert payload["CC, single-shot"]["published"] is None
    assert payload["CC, single-shot"]["single_shot_trials"] == 3


def test_each_query_has_its_first_match_precision_and_nearest_items_by_their_own_names() -> None:
    names = {"identity": {0: "anna"}, "camera": {0: "door", 1: ""}, "clothes": {0: "red coat"}}
    search = synthetic_features(
        protocols=(*STANDARD, PAIR), single_shot=TRIALS, trained_on="ltcc", names=names
    )
    rows = score_protocols(search, CPU) + score_protocols(search, CPU, reranked=True)
    listed = query_rows(search, rows, CPU)
    assert [entry["path"] for entry in listed] == list(search.query.paths)
    assert {k: v for k, v in listed[0].items() if k != "protocols"} == {
        "path": "query/0.png", "identity": "anna", "camera": "door", "clothes": "red coat"
    }  # fmt: skip
    assert "camera" not in listed[1]  # without a name
    cosines = search.query.features @ search.gallery.features.T
    for row in rows:
        assert (row.ranking is None) == (row.trials > 0)
        if row.ranking is None:
            continue
        assert len(listed) == row.scores.n_valid + row.scores.n_skipped + sum(
            row.title not in entry["protocols"] for entry in listed
        )
        for index, entry in enumerate(listed):
            if (result := entry["protocols"].get(row.title)) is None:
                continue
            assert result["first_match"] == (int(row.ranking.first[index]) or None)
            assert result["AP"] == pytest.approx(float(row.ranking.precision[index]), nan_ok=True)
            if row.reranked:
                assert "nearest" not in result
                continue
            nearest = result["nearest"]
            right = [item["is_match"] for item in nearest]
            first = right.index(True) + 1 if True in right else None
            assert first == result["first_match"] or (result["first_match"] or 99) > len(right)
            for item in nearest:
                number = search.gallery.paths.index(item["path"])
                assert item["cosine"] == pytest.approx(float(cosines[index, number]), abs=1e-6)
                assert (item["identity"] == entry["identity"]) or not item["is_match"]
            values = [item["cosine"] for item in nearest]
            assert values == sorted(values, reverse=True)
            assert len(values) <= 10
