"""Rankings against the reference implementation and against small cases computed by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ffreid.bench.reference_retrieval import reference_rank
from ffreid.errors import UserError
from ffreid.reid.data.records import Record, labels
from ffreid.reid.retrieval import ranking as module
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


def random_case(seed: int, spread: str) -> tuple[Tensor, Labels, Labels]:
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


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seed", range(8))
def test_rankings_equal_the_reference(
    seed: int, spread: str, in_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_chunks:
        monkeypatch.setattr(module, "_ON_CPU", 300)
        monkeypatch.setattr(module, "_BLOCK_BYTES", 2000)
    case = random_case(seed, spread)
    for protocol, ranking in zip(PROTOCOLS, rank(*case, PROTOCOLS), strict=True):
        expected = reference_rank(*case, protocol)
        assert (ranking.name, ranking.n_skipped) == (protocol.name, expected.n_skipped)
        assert ranking.n_valid == len(expected.precision)
        for values, expected_values in (
            (ranking.precision[ranking.valid], expected.precision),
            (ranking.penalty[ranking.valid], expected.penalty),
            ([ranking.cmc(k) for k in range(1, len(expected.curve) + 1)], expected.curve),
        ):
            np.testing.assert_allclose(values, expected_values, rtol=0, atol=1e-12)


def by_hand(**overrides: list[float]) -> Ranking:
    """One query (identity 1, camera 0) with matches 2nd and 3rd of four, after one junk item."""
    columns = {"identity": [1, 2, 1, 1, 3], "camera": [0, 0, 1, 2, 1]} | overrides
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    query = label_columns(identity=[1], camera=[0])
    return rank(distances, query, label_columns(**columns), [GENERAL])[0]


def test_scores_by_hand() -> None:
    ranking = by_hand()
    assert int(ranking.first[0]) == 2
    assert ranking.mean_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-15)
    assert ranking.mean_inverse_penalty == pytest.approx(2 / 3, abs=1e-15)
    assert [ranking.cmc(k) for k in (1, 2, 20, 10**6)] == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("first", [2**24, 2**53])
def test_large_identities_are_different(first: int) -> None:
    records = [Record((), identity, camera=1, clothes=0) for identity in (first + 1, first)]
    query = labels([Record((), first, camera=0, clothes=0)], ["camera"])
    gallery = labels(records, ["camera"])
    assert gallery["identity"].tolist() == [first + 1, first]
    result = rank(torch.tensor([[0.1, 0.2]]), query, gallery, [GENERAL])[0]
    assert (int(result.first[0]), result.mean_average_precision) == (2, 0.5)


@pytest.mark.parametrize("identity", [[7, 8, 9, 7, 8], [1, 8, 9, 1, 8]], ids=["none", "junk only"])
def test_without_valid_query_the_scores_are_nan(identity: list[float]) -> None:
    result = by_hand(identity=identity, camera=[0] * 5)
    assert (result.n_valid, result.n_skipped) == (0, 1)
    assert math.isnan(result.mean_average_precision)
    assert math.isnan(result.mean_inverse_penalty)
    assert math.isnan(result.cmc(1))


@pytest.mark.parametrize(("queries", "items"), [(0, 5), (3, 0), (0, 0)])
def test_an_empty_query_or_gallery_is_ranked(queries: int, items: int) -> None:
    query = label_columns(identity=[1] * queries, camera=[0] * queries)
    gallery = label_columns(identity=[1] * items, camera=[1] * items)
    result = rank(torch.zeros(queries, items), query, gallery, [GENERAL])[0]
    assert (result.n_valid, result.n_skipped) == (0, queries)


def test_queries_outside_the_protocol_are_not_counted_as_skipped() -> None:
    query = label_columns(identity=[1, 5, 5], camera=[0, 0, 2])
    gallery = label_columns(identity=[1], camera=[1])
    result = rank(torch.zeros(3, 1), query, gallery, [between("0 and 1", [0], [1])])[0]
    assert (result.n_valid, result.n_skipped) == (1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("spread", SPREADS)
def test_rankings_on_a_gpu_equal_those_on_the_cpu(spread: str) -> None:
    distances, query, gallery = random_case(0, spread)
    expected = rank(distances, query, gallery, STANDARD)
    query, gallery = ({name: v.cuda() for name, v in side.items()} for side in (query, gallery))
    rankings = rank(distances.cuda(), query, gallery, STANDARD)
    for on_gpu, on_cpu in zip(rankings, expected, strict=True):
        torch.testing.assert_close(on_gpu.first, on_cpu.first)
        torch.testing.assert_close(on_gpu.precision, on_cpu.precision, equal_nan=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_distances_that_are_not_finite_and_incomplete_columns_are_errors(
    value: float | None,
) -> None:
    gallery = label_columns(identity=[1, 1, 2], camera=[0, 1, 1])
    query = label_columns(identity=[1, 1], camera=[2, 2] if value else [2])
    message = "NaN or infinite" if value else "'camera' of the query has 1 entries, expected 2"
    with pytest.raises(UserError, match=message):
        rank(torch.tensor([[0.1, value or 0.2, 0.3]] * 2), query, gallery, [GENERAL])


@pytest.mark.parametrize("block", [1, 7, 100])
def test_distances_do_not_depend_on_the_blocks_of_the_gallery(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GALLERY_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    query, gallery = (torch.randn(n, 16, generator=generator) for n in (5, 20))
    expected = -(query[1:4] @ gallery.T)
    torch.testing.assert_close(cosine_distances(query, gallery)(1, 4), expected)
    assert cosine_distances(query, gallery[:0])(1, 4).shape == (3, 0)
