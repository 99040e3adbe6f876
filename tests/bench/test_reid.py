"""The tables of timings are complete, and references compute the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.bench import reid_data, reid_network, reid_ranking
from ffreid.engine.task import Progress
from ffreid.engine.timing import Cost
from ffreid.reid.data.transforms import ImageTraining

Rows = list[dict[str, Any]]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("stage", "with_reference"),
    [
        (lambda quick: reid_ranking.size_rows("toy", 5, 300, 20, 4, CPU), [True, False]),
        (reid_ranking.reranking_rows, [True, False]),
        (reid_data.feeding_rows, [True] * 15 + [False]),
        (lambda quick: reid_network.network_rows(quick, CPU), [True] * 4),
        (lambda quick: reid_network.training_rows(quick, CPU), [True] * 3),
    ],
)
def test_rows_have_their_columns_and_references(
    stage: Callable[[bool], Rows], with_reference: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reid_ranking, reid_network):
        monkeypatch.setattr(module, "measure_alone", lambda prepare, *sizes: Cost(1.0, 2.0))
    rows = stage(True)
    columns = {"stage", "milliseconds", "share", "plain milliseconds", "ratio", "peak MB"}
    assert all(set(row) == columns for row in rows)
    assert all(row["milliseconds"] > 0 for row in rows)
    assert [row["ratio"] is not None for row in rows] == with_reference


def test_calls_that_are_measured_in_a_new_process_work() -> None:
    reid_ranking.reranking_of_features(3, 60)()
    reid_ranking.ranking_of_features(3, 60)()
    reid_network.warm_step(64, 32, keep=False)()


def test_training_images_equal_the_reference(tmp_path: Path) -> None:
    data = reid_data.noise_dataset(tmp_path, ImageTraining(48, 24), frames=1)
    for position in range(8):
        expected = reid_data.reference_sample(data, (0, position))
        torch.testing.assert_close(data[0, position].images, expected, rtol=0, atol=1e-6)


def test_the_timed_step_trains_both_classifiers() -> None:
    train_step, batch = reid_network.cal_training(64, 32, CPU)
    terms = train_step.step([batch], Progress(step=0, total=1, epoch=0)).terms
    assert terms["clothes"] > 0
    assert terms["adversarial"] > 0
