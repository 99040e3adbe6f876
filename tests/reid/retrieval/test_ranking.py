"""The evaluator against the plain form and against small cases worked by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.bench.reference_retrieval import reference_rank
from ffreid.errors import UserError
from ffreid.reid.data.records import Record, labels
from ffreid.reid.retrieval import ranking as room
from ffreid.reid.retrieval.protocols import (
    GENERAL,
    STANDARD,
    Protocol,
    between,
    label_columns,
    on_identities,
)
from ffreid.reid.retrieval.ranking import Ranking, cosine_distances, rank

Labels = dict[str, Tensor]
PROTOCOLS = (
    *STANDARD,
    between("cameras 0 and 1", [0], [1]),
    on_identities(GENERAL, "even", range(0, 40, 2)),
    Protocol(name="anything else", other=()),
)
SPREADS = ("distinct", "few values", "one value", "far outlier")


def made_up(seed: int, spread: str) -> tuple[Tensor, Labels, Labels]:
    generator = np.random.default_rng(seed)
    queries, items = int(generator.integers(1, 20)), int(generator.integers(1, 400))
    identities = int(generator.integers(1, 40))
    distances = generator.standard_normal((queries, items))
    if spread == "few values":
        distances = np.round(distances * 2)
    if spread == "one value":
        distances[:] = -0.5
    if spread == "far outlier":
        distances[:, generator.integers(items)] = 1e8
    labels = [
        label_columns(
            identity=generator.integers(identities, size=count),
            camera=generator.integers(3, size=count),
            clothes=generator.integers(2, size=count),
        )
        for count in (queries, items)
    ]
    kind = np.float64 if seed % 2 else np.float32
    return torch.from_numpy(distances.astype(kind)), labels[0], labels[1]


def assert_as_plain(distances: Tensor, query: Labels, gallery: Labels) -> None:
    for protocol, found in zip(PROTOCOLS, rank(distances, query, gallery, PROTOCOLS), strict=True):
        expected = reference_rank(distances, query, gallery, protocol)
        assert (found.name, found.n_skipped) == (protocol.name, expected.n_skipped)
        assert found.n_valid == len(expected.precision)
        pairs = (
            (found.precision[found.valid], expected.precision),
            (found.penalty[found.valid], expected.penalty),
            (found.curve(len(expected.curve)), expected.curve),
        )
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seed", range(8))
def test_every_query_is_ranked_as_by_sorting(seed: int, spread: str) -> None:
    assert_as_plain(*made_up(seed, spread))


@pytest.mark.parametrize("spread", SPREADS)
def test_chunks_change_nothing(spread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ON_CPU", 300)
    monkeypatch.setattr(room, "_BLOCK_BYTES", 2000)
    assert_as_plain(*made_up(4, spread))


def by_hand(**overrides: list[float]) -> Ranking:
    """One query (identity 1, camera 0) with matches 2nd and 3rd of four, after one junk item."""
    columns = {"identity": [1, 2, 1, 1, 3], "camera": [0, 0, 1, 2, 1]} | overrides
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    query = label_columns(identity=[1], camera=[0])
    return rank(distances, query, label_columns(**columns), [GENERAL])[0]


def test_junk_is_taken_out_of_the_ranking() -> None:
    assert int(by_hand().first[0]) == 2


def test_average_precision_by_hand() -> None:
    assert by_hand().mean_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-15)


def test_inverse_penalty_by_hand() -> None:
    assert by_hand().mean_inverse_penalty == pytest.approx(2 / 3, abs=1e-15)


@pytest.mark.parametrize(("k", "share"), [(1, 0.0), (2, 1.0), (20, 1.0), (10**6, 1.0)])
def test_cmc_holds_at_any_k_also_beyond_the_gallery(k: int, share: float) -> None:
    assert by_hand().cmc(k) == share


@pytest.mark.parametrize("first", [2**24, 2**53])
def test_large_identities_stay_apart(first: int) -> None:
    people = [Record((), identity, camera=1, clothes=0) for identity in (first + 1, first)]
    query = labels([Record((), first, camera=0, clothes=0)], ["camera"])
    gallery = labels(people, ["camera"])
    assert gallery["identity"].tolist() == [first + 1, first]
    found = rank(torch.tensor([[0.1, 0.2]]), query, gallery, [GENERAL])[0]
    assert (int(found.first[0]), found.mean_average_precision) == (2, 0.5)


@pytest.mark.parametrize(("match", "place"), [(0, 1), (1, 2), (3, 4)])
def test_equal_distances_rank_by_gallery_index(match: int, place: int) -> None:
    gallery = label_columns(identity=np.eye(4, dtype=int)[match], camera=[1] * 4)
    query = label_columns(identity=[1], camera=[0])
    assert int(rank(torch.zeros(1, 4), query, gallery, [GENERAL])[0].first[0]) == place


@pytest.mark.parametrize("identity", [[7, 8, 9, 7, 8], [1, 8, 9, 1, 8]], ids=["none", "junk only"])
def test_no_valid_query_gives_nan_and_is_counted(identity: list[float]) -> None:
    found = by_hand(identity=identity, camera=[0] * 5)
    assert (found.n_valid, found.n_skipped) == (0, 1)
    assert math.isnan(found.mean_average_precision)
    assert math.isnan(found.mean_inverse_penalty)
    assert math.isnan(found.cmc(1))
    assert bool(found.curve(3).isnan().all())


@pytest.mark.parametrize(("queries", "items"), [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_rank_is_no_crash(queries: int, items: int) -> None:
    query = label_columns(identity=[1] * queries, camera=[0] * queries)
    gallery = label_columns(identity=[1] * items, camera=[1] * items)
    found = rank(torch.zeros(queries, items), query, gallery, [GENERAL])[0]
    assert (found.n_valid, found.n_skipped) == (0, queries)


def test_queries_outside_the_choice_are_not_counted_as_skipped() -> None:
    query = label_columns(identity=[1, 5, 5], camera=[0, 0, 2])
    gallery = label_columns(identity=[1], camera=[1])
    found = rank(torch.zeros(3, 1), query, gallery, [between("0 and 1", [0], [1])])[0]
    assert (found.n_valid, found.n_skipped) == (1, 1)


def test_features_give_what_their_distances_give() -> None:
    _, query, gallery = made_up(1, "distinct")
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(len(labels["identity"]), 6, generator=generator, dtype=torch.float64)
        for labels in (query, gallery)
    )
    from_features = rank(cosine_distances(left, right), query, gallery, [GENERAL])[0]
    from_matrix = rank(-(left @ right.T), query, gallery, [GENERAL])[0]
    torch.testing.assert_close(from_features.precision, from_matrix.precision, equal_nan=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_distances_are_refused(value: float) -> None:
    distances = torch.tensor([[0.1, value, 0.3]])
    labels = label_columns(identity=[1, 1, 2], camera=[0, 1, 1])
    query = label_columns(identity=[1], camera=[2])
    with pytest.raises(UserError, match="NaN or infinite"):
        rank(distances, query, labels, [GENERAL])


def test_columns_of_another_length_are_refused() -> None:
    labels = label_columns(identity=[1, 1], camera=[0, 1])
    with pytest.raises(UserError, match="'camera' of the query has 1 entries, expected 2"):
        rank(torch.zeros(2, 2), labels | {"camera": labels["camera"][:1]}, labels, [GENERAL])
