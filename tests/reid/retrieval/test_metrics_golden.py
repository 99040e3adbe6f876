"""CMC, mAP and complete evaluations against the recorded values."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ffreid.reid.retrieval.features import average_clips, flip_and_sum, unit
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, SAME_CLOTHES, label_columns
from ffreid.reid.retrieval.ranking import Ranking, cosine_distances, rank
from ffreid.reid.retrieval.scores import scores
from tests.golden import arrays, facts, recordings
from tests.reid.original_protocols import SETTINGS

pytestmark = pytest.mark.golden
METRICS = recordings("ccreid", "metrics.npz")
PROTOCOLS = {"general": GENERAL, "SC": SAME_CLOTHES, "CC": CLOTHES_CHANGING}
Arrays = dict[str, npt.NDArray[Any]]


def labels(data: Arrays, case: str, side: str) -> dict[str, Tensor]:
    names = {"identity": "pids", "camera": "cams", "clothes": "clothes"}
    return label_columns(**{name: data[f"{case}/{side}_{key}"] for name, key in names.items()})


def skipped(log: list[str]) -> int:
    return sum(int(line.split()[0]) for line in log if "do not have groundtruth" in line)


def assert_equal_to_recorded(found: Ranking, expected: dict[str, Any]) -> None:
    curve = found.curve(len(expected["cmc"])).numpy()
    np.testing.assert_allclose(curve, expected["cmc"], rtol=0, atol=1e-9)
    assert found.mean_average_precision == pytest.approx(expected["mAP"], abs=1e-9)
    if "log" in expected:
        assert found.n_skipped == skipped(expected["log"])


@pytest.mark.parametrize("stem", METRICS)
def test_curves_and_precisions_equal_the_recorded(stem: str) -> None:
    data, cases = arrays("ccreid", stem), facts("ccreid", stem)
    complete = [case for case in cases if "results" in cases[case] and f"{case}/q_pids" in data]
    assert complete
    for case in complete:
        results = cases[case]["results"]
        found = rank(
            torch.from_numpy(data[f"{case}/dist"]),
            labels(data, case, "q"),
            labels(data, case, "g"),
            [PROTOCOLS[name] for name in results],
        )
        for ranking, expected in zip(found, results.values(), strict=True):
            assert_equal_to_recorded(ranking, expected)


@pytest.mark.parametrize("stem", METRICS)
def test_ties_equal_a_recorded_stable_sort(stem: str) -> None:
    data, results = arrays("ccreid", stem), facts("ccreid", stem)["ties"]["results_stable_argsort"]
    assert results
    for name, expected in results.items():
        sides = labels(data, "ties", "q"), labels(data, "ties", "g")
        distances = torch.from_numpy(data["ties/dist"])
        assert_equal_to_recorded(rank(distances, *sides, [PROTOCOLS[name]])[0], expected)


@pytest.mark.parametrize("stem", METRICS)
def test_without_matches_every_query_is_skipped(stem: str) -> None:
    distances = torch.from_numpy(arrays("ccreid", stem)["edge_none/dist"])
    queries, items = distances.shape
    query = label_columns(identity=[1] * queries, camera=[0] * queries, clothes=[1] * queries)
    gallery = label_columns(identity=[2] * items, camera=[1] * items, clothes=[2] * items)
    for ranking in rank(distances, query, gallery, list(PROTOCOLS.values())):
        assert (ranking.n_valid, ranking.n_skipped) == (0, queries)
        assert np.isnan(ranking.mean_average_precision)


def features(data: Arrays, side: str) -> Tensor:
    images = torch.from_numpy(data[f"pipe/{side}_img"]).flatten(1)
    weight = torch.from_numpy(data["pipe/W"])
    return flip_and_sum(images @ weight, images.flip(1) @ weight)


@pytest.mark.parametrize("stem", METRICS)
def test_features_of_images_and_tracklets_equal_the_recorded(stem: str) -> None:
    data = arrays("ccreid", stem)
    clips = torch.from_numpy(data["vid/clips"])
    frames = clips.flatten(3).mean(dim=2).flatten(1) @ torch.from_numpy(data["pipe/W"])
    of_tracklets = average_clips(frames, torch.from_numpy(data["vid/vid2clip_index"]))
    for values, name in (
        (features(data, "q"), "pipe/q_feature"),
        (features(data, "g"), "pipe/g_feature"),
        (of_tracklets, "vid/features"),
    ):
        np.testing.assert_allclose(values.numpy(), data[name], rtol=0, atol=1e-6)


def printed(log: list[str]) -> list[tuple[str, str, int]]:
    """Return title, line of results and number of skipped queries of each setting in `log`."""
    blocks = re.split(r"(?=Computing CMC)", "\n".join(log))[1:]
    lines = [block.split("\n") for block in blocks]
    return [(line[0], next(x for x in line if "top1" in x), skipped(line)) for line in lines]


@pytest.mark.parametrize("stem", METRICS)
def test_complete_evaluations_print_the_recorded_lines(stem: str) -> None:
    data = arrays("ccreid", stem)
    runs = {name: run for name, run in facts("ccreid", stem)["pipeline"].items() if "log" in run}
    assert runs
    gallery = labels(data, "pipe", "g")
    distances = cosine_distances(unit(features(data, "q")), features(data, "g"))
    for name, run in runs.items():
        query = labels(data, "pipe", "q")
        if name == "prcc":
            query = query | {"camera": query["camera"] + 10}
        assert printed(run["log"])
        for title, line, count in printed(run["log"]):
            found = rank(distances, query, gallery, [SETTINGS[title]])[0]
            row = scores(found, query["identity"])
            shown = " ".join(f"top{k}:{share:.1%}" for k, share in row.cmc.items())
            assert f"{shown} mAP:{row.mean_average_precision:.1%}" == line
            assert row.n_skipped == count
        assert row.cmc[1] == pytest.approx(run["return_rank1"], abs=1e-9)
