"""Published results: whose they are, and which rows they stand beside."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ffreid.reid.features import BASELINE, CAL
from ffreid.reid.published import PublishedResult, compare, published_results
from ffreid.reid.scoring import ResultRow, score_protocols
from tests.reid.synthetic_features import synthetic_features

DATASETS = [
    "ltcc",
    "prcc",
    "vcclothes",
    "vcclothes_sc",
    "vcclothes_cc",
    "last",
    "deepchange",
    "ccvid",
]


def test_published_results_are_of_one_dataset_network_and_method() -> None:
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


def test_every_published_result_has_its_number_of_queries() -> None:
    found = {
        name: {result.valid for result in published_results(name, network).values()}
        for name in DATASETS
        for network in ("c2dres50" if name == "ccvid" else "resnet50",)
    }
    expected = [{493, 392}, {3543, 3873}, {1020}, set(), set(), {10173}, {17527}, {834}]
    assert found == dict(zip(DATASETS, expected, strict=True))


def rows(title: str = "", protocol: str = "CC", valid: int = 392, **changes: Any) -> ResultRow:
    """A row of this protocol and number of valid queries."""
    row = score_protocols(synthetic_features(), torch.device("cpu"))[2]
    scores = replace(row.scores, n_valid=valid)
    return replace(row, title=title or protocol, protocol=protocol, scores=scores, **changes)


SAME = ("ltcc", "resnet50", CAL, "ltcc")
PAIR = "CC (cameras 3 and 4)"


@pytest.mark.parametrize(
    ("row", "trained", "is_shown", "lines"),
    [
        (rows(), SAME, True, ["published: CAL, Gu et al.", "published: CC is over all"]),
        (rows(), ("ltcc", "resnet50", BASELINE, "ltcc"), True, ["published: CAL's baseline,", ""]),
        (rows(valid=12), SAME, False, ["note: CC: published on 392 queries, so not compared"]),
        (rows(reranked=True), SAME, False, []),
        (rows(trials=10), SAME, False, []),
        (rows(), ("ltcc", "i3dres50", CAL, "ltcc"), False, ["note: no published results of i3d"]),
        (
            rows(),
            ("ltcc", "resnet50", CAL, "toy-reid"),
            False,
            ["note: the weights were trained on toy-reid, not on ltcc, so published results are"],
        ),
        (rows(), ("ltcc", "resnet50", CAL, ""), False, ["note: it is not known which dataset"]),
        (
            rows(protocol="general", valid=1020),
            ("vcclothes", "resnet50", CAL, "vcclothes_cc"),
            True,
            ["published: CAL", "", "published: secondary: from a table"],
        ),
        (
            rows(protocol=PAIR),
            ("vcclothes_cc", "resnet50", CAL, "vcclothes"),
            False,
            [f"published: {PAIR}: on an unknown number of queries, so not compared"],
        ),
        (rows(), ("folder", "resnet50", CAL, "folder"), False, []),
        (rows(), ("folder", "resnet50", CAL, ""), False, []),
        (rows(), ("toy-reid", "resnet50", CAL, "toy-reid"), False, []),
        (rows(), ("folder", "resnet50", CAL, "ltcc"), False, ["note: the weights were trained on"]),
    ],
)
def test_published_results_stand_only_beside_what_is_comparable(
    row: ResultRow, trained: tuple[str, str, str, str], is_shown: bool, lines: list[str]
) -> None:
    found, told = compare([row], *trained)
    assert (row.title in found) == is_shown
    assert len(told) == len(lines)
    for line, start in zip(told, lines, strict=True):
        assert line.startswith(start)
