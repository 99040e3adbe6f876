"""The table of timings is complete; how fast is not a test's to judge."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ffreid.bench.reid import made_up_features, reranking_rows, size_rows
from ffreid.bench.reid_networks import (
    feeding_rows,
    made_up_set,
    made_up_training,
    network_rows,
    operations,
    reference_sample,
    training_rows,
)
from ffreid.engine.task import Progress
from ffreid.reid.data.transforms import ImageTraining

COLUMNS = {"stage", "milliseconds", "share", "plain milliseconds", "ratio", "peak MB"}


def compared(rows: list[dict[str, Any]]) -> list[bool]:
    """Check the rows' form; give which of them stand beside a plain form."""
    assert all(set(row) == COLUMNS for row in rows)
    assert all(row["milliseconds"] > 0 for row in rows)
    return [row["ratio"] is not None for row in rows]


def test_ranking_stands_beside_its_plain_form() -> None:
    rows = size_rows("toy", 5, 300, 20, 4, features=True)
    assert compared(rows) == [True, False, False, False]


def test_re_ranking_stands_beside_the_dense_formula_and_has_its_memory_measured() -> None:
    rows = reranking_rows(quick=True)
    assert compared(rows) == [True, False]
    assert [row["peak MB"] is not None for row in rows] == [False, True]
    assert rows[1]["peak MB"] > 0


def test_feeding_stands_beside_torchvision() -> None:
    assert compared(feeding_rows(quick=True)) == [True, False]


def test_both_kinds_of_network_are_timed() -> None:
    assert compared(network_rows(quick=True)) == [False, False, False, False]


def test_training_in_groups_stands_beside_one_group_after_the_other() -> None:
    assert compared(training_rows(quick=True)) == [False, True]


@pytest.mark.parametrize("position", range(8))
def test_the_plain_training_picture_is_the_same(tmp_path: Path, position: int) -> None:
    data = made_up_set(tmp_path, ImageTraining(48, 24), frames=1)
    ours, plain = data[0, position].images, reference_sample(data, (0, position))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


def test_operations_of_a_convolution_are_counted_twice_a_multiplication() -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)

    assert operations(make, (2, 3, 8, 4)) == 2 * (2 * 8 * 4) * 5 * (3 * 9)


def test_the_made_up_step_trains_both_classifiers_against_each_other() -> None:
    train_step, batch = made_up_training(64, 32)
    found = train_step.step([batch], Progress(step=0, total=1, epoch=0)).terms
    assert found["clothes"] > 0
    assert found["adversarial"] > 0


def test_made_up_features_have_length_one() -> None:
    for features in made_up_features(3, 40, 16):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
