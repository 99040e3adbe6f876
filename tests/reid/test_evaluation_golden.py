"""Complete evaluations, from images and clips to the rows, against the recorded ones."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ffreid.engine.distributed.group import World
from ffreid.recipes import compose
from ffreid.reid import build
from ffreid.reid.data.records import EvalSplit, Record, Source
from ffreid.reid.evaluation import evaluate_split
from ffreid.reid.feature_extraction import compute_features, extract_features
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import CLOTHES_CHANGING, GENERAL, SAME_CLOTHES, Protocol
from tests.golden import arrays, facts, recordings
from tests.reid.synthetic_features import Projection, TensorDataset

pytestmark = pytest.mark.golden
METRICS = recordings("ccreid", "metrics.npz")
WORLD = World(0, 1, torch.device("cpu"))
CFG = compose("ltcc", pairs=["DATA.TEST_BATCH", "3", "DATA.NUM_WORKERS", "0"])
# What the original prints before its results, and the corresponding protocol.
SETTINGS = {
    "Computing CMC and mAP": GENERAL,
    "Computing CMC and mAP only for the same clothes setting": SAME_CLOTHES,
    "Computing CMC and mAP only for clothes-changing": CLOTHES_CHANGING,
    "Computing CMC and mAP for the same clothes setting": GENERAL,
    "Computing CMC and mAP only for clothes changing": GENERAL,
}
Arrays = dict[str, npt.NDArray[Any]]


def records(data: Arrays, side: str, camera: int = 0) -> tuple[Record, ...]:
    columns = [data[f"pipe/{side}_{name}"].tolist() for name in ("pids", "cams", "clothes")]
    return tuple(
        Record((f"{side}/{index}.png",), identity, recorded_camera + camera, clothes)
        for index, (identity, recorded_camera, clothes) in enumerate(zip(*columns, strict=True))
    )


def source(data: Arrays, protocols: Sequence[Protocol], camera: int = 0) -> Source:
    """The recorded pipeline's queries (their cameras shifted by `camera`) and gallery."""
    test = EvalSplit(
        query=records(data, "q", camera), gallery=records(data, "g"), protocols=tuple(protocols)
    )
    return Source(
        name="recorded", folder=Path(), video=False, train=(), identities=(), clothes=(), test=test
    )


@pytest.fixture
def _images_in_memory(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = arrays("ccreid", stem)
    images = torch.from_numpy(np.concatenate([data["pipe/q_img"], data["pipe/g_img"]]))
    monkeypatch.setattr(build, "evaluation_set", lambda *_: TensorDataset(images))


def network(data: Arrays) -> Projection:
    return Projection(torch.from_numpy(data["pipe/W"]))


def labelled_features(data: Arrays) -> ExtractedFeatures:
    recorded = source(data, [GENERAL])
    return extract_features(CFG, WORLD, recorded, network(data), recorded.test, "")


@pytest.mark.parametrize("stem", METRICS)
@pytest.mark.usefixtures("_images_in_memory")
def test_features_of_images(stem: str) -> None:
    data = arrays("ccreid", stem)
    actual = labelled_features(data)
    for side, name in ((actual.query, "q"), (actual.gallery, "g")):
        np.testing.assert_allclose(
            side.features.numpy(), data[f"pipe/{name}_feature"], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("stem", METRICS)
def test_features_of_tracklets(stem: str) -> None:
    data = arrays("ccreid", stem)
    spans: Tensor = torch.from_numpy(data["vid/vid2clip_index"])
    net = Projection(torch.from_numpy(data["pipe/W"]), video=True)
    clips = TensorDataset(torch.from_numpy(data["vid/clips"]))
    actual = compute_features(CFG, WORLD, clips, net, spans)
    np.testing.assert_allclose(actual.features.numpy(), data["vid/features"], rtol=0, atol=1e-6)


def printed(log: list[str]) -> list[tuple[str, str, int]]:
    """Title, line of results and number of skipped queries of each setting in `log`."""
    blocks = [block.split("\n") for block in re.split(r"(?=Computing CMC)", "\n".join(log))[1:]]
    return [
        (
            block[0],
            next(line for line in block if "top1" in line),
            sum(int(line.split()[0]) for line in block if "do not have groundtruth" in line),
        )
        for block in blocks
    ]


@pytest.mark.parametrize("stem", METRICS)
@pytest.mark.usefixtures("_images_in_memory")
def test_evaluations_equal_the_recorded_lines_and_selected_value(stem: str) -> None:
    data = arrays("ccreid", stem)
    runs = {name: run for name, run in facts("ccreid", stem)["pipeline"].items() if "log" in run}
    assert runs
    for name, run in runs.items():
        for title, line, skipped in printed(run["log"]):
            recorded = source(data, [SETTINGS[title]], camera=10 if name == "prcc" else 0)
            _, (row,) = evaluate_split(CFG, WORLD, recorded, network(data), split="test")
            actual = row.scores
            shown = " ".join(f"top{k}:{share:.1%}" for k, share in actual.cmc.items())
            assert f"{shown} mAP:{actual.mean_average_precision:.1%}" == line
            assert actual.n_skipped == skipped
        assert actual.cmc[1] == pytest.approx(run["return_rank1"], abs=1e-9)
