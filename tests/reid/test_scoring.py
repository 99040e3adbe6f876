"""Rows of the table: every protocol, small galleries, re-ranking, published results."""

from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

from ffreid.errors import UserError
from ffreid.reid.features import BASELINE
from ffreid.reid.published import PublishedResult, publication_notes, published_results
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
    cells = table([row], {"general": PublishedResult(0.5, 0.5, "paper")})[0]
    assert cells[COLUMNS.index("published")] is None


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
    cells = table(rows, {"CC": PublishedResult(0.401, 0.18, "recalled")})
    row_cells = dict(zip(COLUMNS, cells[2], strict=True))
    assert row_cells["published"] == "40.1 / 18.0 (recalled)"
    assert row_cells["difference"] == f"{ours[0] - 40.1:+.1f} / {ours[1] - 18.0:+.1f}"
    assert row_cells["rank-1"] == ours[0]
    assert dict(zip(COLUMNS, cells[0], strict=True))["difference"] is None


def test_results_on_a_different_number_of_queries_are_not_compared() -> None:
    row = score_protocols(synthetic_features(), CPU)[2]
    cells = table([row], {"CC": PublishedResult(0.401, 0.18, "paper", 10_000)})[0]
    row_cells = dict(zip(COLUMNS, cells, strict=True))
    assert row_cells["difference"] == "on 10000 queries"
    assert row.scores.rank1_interval is not None
    low, high = row.scores.rank1_interval
    assert str(row_cells["95 % interval"]).startswith(f"{100 * low:.1f}–{100 * high:.1f} / ")
    assert row_cells["valid queries"] == f"{row.scores.n_valid} ({row.scores.n_skipped} skipped)"


@pytest.mark.parametrize(
    ("protocol", "cell"), [(GENERAL, "none: 2 without a match"), (between("x", (5,), (0,)), "none")]
)
def test_a_row_without_valid_queries_shows_the_reason_instead_of_numbers(
    protocol: object, cell: str
) -> None:
    extracted = synthetic_features(protocols=(protocol,))  # type: ignore[arg-type]
    unmatched = labelled_features(extracted.query.features[:2], [77, 78], [0, 1], [0, 0], "query")
    (row,) = score_protocols(replace(extracted, query=unmatched), CPU)
    (cells,) = table([row], {protocol.name: PublishedResult(0.5, 0.5, "paper")})  # type: ignore[attr-defined]
    assert cells == [row.title, *[None] * (len(COLUMNS) - 2), cell]


def test_json_has_unrounded_results_by_title() -> None:
    rows = score_protocols(synthetic_features(single_shot=TRIALS), CPU)
    payload = as_json(rows, {"CC": PublishedResult(0.401, 0.18, "paper")})
    assert list(payload) == [row.title for row in rows]
    assert payload["CC"]["mAP"] == rows[2].scores.mean_average_precision
    assert payload["CC"]["published"]["rank1"] == 0.401
    assert payload["CC, single-shot"]["published"] is None
    assert payload["CC, single-shot"]["single_shot_trials"] == 3


def test_queries_are_listed_with_their_first_match_and_precision() -> None:
    extracted = synthetic_features()
    rows = score_protocols(extracted, CPU)
    queries = query_rows(extracted, rows)
    assert [entry["path"] for entry in queries] == list(extracted.query.paths)
    assert rows[2].ranking is not None
    for index, entry in enumerate(queries):
        valid = bool(rows[2].ranking.valid[index])
        assert ("CC" in entry["protocols"]) == valid
    means = fmean(entry["protocols"]["general"]["AP"] for entry in queries)
    assert means == pytest.approx(rows[0].scores.mean_average_precision)


def test_published_results_depend_on_dataset_network_and_method() -> None:
    assert published_results("ltcc", "resnet50")["CC"] == PublishedResult(0.401, 0.18, "paper", 392)
    assert published_results("ltcc", "i3dres50") == {}
    assert published_results("toy-reid", "resnet50") == {}
    rank1 = [published_results("ccvid", name)["CC"].rank1 for name in ("c2dres50", "ap3dres50")]
    assert rank1 == pytest.approx([0.817, 0.836])
    assert published_results("ccvid", "ap3dnlres50") == {}
    assert published_results("ltcc", "resnet50", BASELINE)["CC"] == PublishedResult(
        0.281, 0.11, "paper", 392
    )
    assert published_results("last", "resnet50", BASELINE) == {}
    assert published_results("ccvid", "ap3dres50", BASELINE) == {}


@pytest.mark.parametrize(
    ("dataset", "network", "protocols", "note"),
    [
        ("ltcc", "resnet50", {"CC"}, "CVPR 2022"),
        ("vcclothes_sc", "resnet50", {"SC (cameras 2 and 3)"}, "recalled: not verified"),
        ("last", "other", {"general"}, "no published results of other on last"),
        ("toy-reid", "resnet50", {"general", "CC"}, None),
        ("market1501", "resnet50", {"general", "CC"}, None),
        ("folder", "resnet50", {"general", "CC"}, None),
    ],
)
def test_the_source_of_published_results_is_noted(
    dataset: str, network: str, protocols: set[str], note: str | None
) -> None:
    notes = publication_notes(dataset, network, protocols)
    assert any(note in line for line in notes) if note else not notes
