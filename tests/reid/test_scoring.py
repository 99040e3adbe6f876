"""Rows of the table: every protocol, small galleries, re-ranking, published numbers beside them."""

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


def test_every_protocol_is_a_row_from_the_same_features() -> None:
    search = synthetic_features()
    rows = score_protocols(search, CPU)
    features = search.query.features, search.gallery.features
    expected = rank(cosine_distances(*features), *search.labels(CPU), STANDARD)
    assert [row.title for row in rows] == ["general", "SC", "CC"]
    for row, ranking in zip(rows, expected, strict=True):
        assert row.scores.cmc[1] == ranking.cmc(1)
        assert row.scores.mean_average_precision == ranking.mean_average_precision
        assert row.scores.n_valid == ranking.n_valid > 0


def test_no_usable_protocol_is_an_error_that_names_what_is_missing() -> None:
    with pytest.raises(UserError, match="general needs camera; SC needs camera, clothes"):
        score_protocols(synthetic_features(columns=()), CPU)


def test_small_galleries_give_mean_and_deviation() -> None:
    search = synthetic_features(protocols=(GENERAL,), single_shot=TRIALS)
    row = score_protocols(search, CPU)[1]
    parts = [
        score_protocols(
            replace(search, gallery=search.gallery.select(torch.tensor(some)), single_shot=()), CPU
        )
        for some in TRIALS
    ]
    first = [part[0].scores.cmc[1] for part in parts]
    precision = [part[0].scores.mean_average_precision for part in parts]
    assert row.title == "general, single-shot"
    assert (row.trials, row.comparable) == (3, False)
    assert row.scores.cmc[1] == pytest.approx(fmean(first))
    assert row.deviation == pytest.approx((stdev(first), stdev(precision)))


def test_re_ranked_rows_are_marked_and_never_compared() -> None:
    search = synthetic_features(protocols=(GENERAL,))
    (row,) = score_protocols(search, CPU, reranked=True)
    assert row.title == "general, with re-ranking"
    assert not row.comparable
    give = rerank(search.query.features, search.gallery.features)
    (expected,) = rank(give, *search.labels(CPU), [GENERAL])
    assert row.scores.mean_average_precision == expected.mean_average_precision
    cells = table([row], {"general": PublishedResult(0.5, 0.5, "paper")})[0]
    assert cells[COLUMNS.index("published")] is None


def test_re_ranking_sees_only_what_takes_part() -> None:
    search = synthetic_features(protocols=(PAIR,))
    queries = (search.query.labels["camera"] == 0).nonzero().view(-1)
    items = (search.gallery.labels["camera"] != 0).nonzero().view(-1)
    alone = replace(
        search, query=search.query.select(queries), gallery=search.gallery.select(items)
    )
    whole, part = (score_protocols(one, CPU, reranked=True)[0] for one in (search, alone))
    assert whole.scores == part.scores
    assert whole.ranking is not None and part.ranking is not None
    assert torch.equal(whole.ranking.first[queries], part.ranking.first)
    assert len(whole.ranking.first) == len(search.query)


def test_published_numbers_and_the_difference_stand_beside_ours() -> None:
    rows = score_protocols(synthetic_features(), CPU)
    ours = 100 * rows[2].scores.cmc[1], 100 * rows[2].scores.mean_average_precision
    cells = table(rows, {"CC": PublishedResult(0.401, 0.18, "recalled")})
    named = dict(zip(COLUMNS, cells[2], strict=True))
    assert named["published"] == "40.1 / 18.0 (recalled)"
    assert named["difference"] == f"{ours[0] - 40.1:+.1f} / {ours[1] - 18.0:+.1f}"
    assert named["rank-1"] == ours[0]
    assert dict(zip(COLUMNS, cells[0], strict=True))["difference"] is None


def test_another_number_of_valid_queries_is_not_compared() -> None:
    row = score_protocols(synthetic_features(), CPU)[2]
    cells = table([row], {"CC": PublishedResult(0.401, 0.18, "paper", 10_000)})[0]
    named = dict(zip(COLUMNS, cells, strict=True))
    assert named["difference"] == "on 10000 queries"
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
    (cells,) = table([row], {protocol.name: PublishedResult(0.5, 0.5, "paper")})  # type: ignore[attr-defined]
    assert cells == [row.title, *[None] * (len(COLUMNS) - 2), said]


def test_json_is_unrounded_and_by_title() -> None:
    rows = score_protocols(synthetic_features(single_shot=TRIALS), CPU)
    payload = as_json(rows, {"CC": PublishedResult(0.401, 0.18, "paper")})
    assert list(payload) == [row.title for row in rows]
    assert payload["CC"]["mAP"] == rows[2].scores.mean_average_precision
    assert payload["CC"]["published"]["rank1"] == 0.401
    assert payload["CC, single-shot"]["published"] is None
    assert payload["CC, single-shot"]["single_shot_trials"] == 3


def test_queries_are_listed_with_their_first_match_and_precision() -> None:
    search = synthetic_features()
    rows = score_protocols(search, CPU)
    listed = query_rows(search, rows)
    assert [entry["path"] for entry in listed] == list(search.query.paths)
    assert rows[2].ranking is not None
    for index, entry in enumerate(listed):
        valid = bool(rows[2].ranking.valid[index])
        assert ("CC" in entry["protocols"]) == valid
    means = fmean(entry["protocols"]["general"]["AP"] for entry in listed)
    assert means == pytest.approx(rows[0].scores.mean_average_precision)


def test_published_numbers_are_of_one_data_set_and_network() -> None:
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
    ("dataset", "network", "protocols", "said"),
    [
        ("ltcc", "resnet50", {"CC"}, "CVPR 2022"),
        ("vcclothes_sc", "resnet50", {"SC (cameras 2 and 3)"}, "recalled: not verified"),
        ("last", "other", {"general"}, "no published results of other on last"),
    ],
)
def test_where_published_numbers_come_from_is_said(
    dataset: str, network: str, protocols: set[str], said: str
) -> None:
    assert any(said in line for line in publication_notes(dataset, network, protocols))


@pytest.mark.parametrize("dataset", ["toy-reid", "market1501", "folder"])
def test_nothing_is_said_of_unpublished_data_sets(dataset: str) -> None:
    assert publication_notes(dataset, "resnet50", {"general", "CC"}) == []
