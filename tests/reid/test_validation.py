"""Validation during training: schedule, selection of the best state, and log lines."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ffreid.engine.dataset_files import write_image
from ffreid.engine.distributed.group import World
from ffreid.engine.task import Plan, Progress, Task, ValidationResult
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.recipes import compose
from ffreid.reid import validation
from ffreid.reid.data.records import EvalSplit, Record
from ffreid.reid.features import ExtractedFeatures
from ffreid.reid.retrieval.protocols import STANDARD, Protocol
from ffreid.reid.retrieval.scores import RANKS, Scores
from ffreid.reid.scoring import ResultRow, score_protocols, selecting_protocol
from ffreid.reid.sources import check_source
from tests.reid.synthetic_features import empty_source, synthetic_features

CPU = torch.device("cpu")
WORLD = World(0, 1, CPU)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ((), [5, 10]),
        (("TEST.EVAL_STEP", "4"), [4, 8, 12]),
        (("TEST.EVAL_STEP", "4", "TEST.START_EVAL", "4"), [8, 12]),
        (("TEST.EVAL_STEP", "4", "TEST.START_EVAL", "3"), [4, 8, 12]),
        (("TEST.EVAL_STEP", "0"), []),
        (("TEST.EVAL_STEP", "-1"), []),
    ],
)
def test_evaluations_are_due_at_the_end_of_every_nth_epoch(
    pairs: tuple[str, ...], expected: list[int]
) -> None:
    cfg = compose("ltcc", pairs=pairs)
    plan = Plan(batch=64, steps_per_epoch=7, total=84, workers=0)
    due = [done for done in range(1, plan.total + 1) if validation.due(cfg, plan, done)]
    assert [done / plan.steps_per_epoch for done in due] == expected


@pytest.mark.parametrize(
    ("names", "select", "selected_by"),
    [
        (["general", "SC", "CC"], "", "CC"),
        (["general"], "", "general"),
        (["SC", "CC", "CC, listed identities"], "SC mAP max", "SC"),
        (["SC", "CC", "CC, listed identities"], "mAP max", "CC"),
        (["SC (cameras 2 and 3)", "CC (cameras 3 and 4)"], "", "SC (cameras 2 and 3)"),
    ],
)
def test_clothes_changing_selects_if_it_is_evaluated(
    names: list[str], select: str, selected_by: str
) -> None:
    cfg = compose("ltcc", pairs=["TRAIN.SELECT", select])
    assert selecting_protocol(cfg, names) == selected_by


def test_an_unknown_selection_protocol_is_refused_before_training() -> None:
    rows = (Protocol(name="general", other=()), *STANDARD[1:])
    one, other = (Record((f"{number}.png",), 0, number, number) for number in range(2))
    split = EvalSplit(query=(one,), gallery=(other,), protocols=rows)
    source = empty_source(split, train=(one,), identities=("a", "b"))
    cfg = compose("folder", pairs=["TRAIN.SELECT", "CC rank-1 max"])
    check_source(cfg, source)
    with pytest.raises(UserError, match="'CC' is not a protocol of folder") as caught:
        check_source(cfg, replace(source, columns=()))
    assert caught.value.hint == "choose one of: general"


def scores(name: str, rank1: float, precision: float) -> Scores:
    valid = not math.isnan(rank1)
    return Scores(
        name=name,
        cmc=dict.fromkeys(RANKS, rank1),
        mean_average_precision=precision,
        mean_inverse_penalty=precision,
        n_valid=9 if valid else 0,
        n_skipped=0 if valid else 9,
        rank1_interval=(0.0, 1.0) if valid else None,
        precision_interval=(0.0, 1.0) if valid else None,
    )


class IdleTask(Task):
    """A task with a network that is never run."""

    optimized = ("net",)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Module()
        self.net.model = nn.Linear(1, 1)


@pytest.fixture
def train_step() -> TrainStep:
    task = IdleTask()
    optimisers = {"net": torch.optim.SGD(task.parameters(), lr=0.1)}
    return TrainStep(task, optimisers, {"net": lambda step: 0.1}, device=CPU, seed=0)


def validated(
    train_step: TrainStep, patch: pytest.MonkeyPatch, rows: list[Scores], *pairs: str
) -> ValidationResult:
    calls: list[Any] = []

    def evaluate_split(*args: Any, split: str) -> tuple[ExtractedFeatures, list[ResultRow]]:
        calls.append((args[-1], split))
        return synthetic_features(), [
            ResultRow(title=s.name, protocol=s.name, scores=s) for s in rows
        ]

    patch.setattr(validation, "evaluate_split", evaluate_split)
    cfg = compose("prcc", pairs=pairs)
    source: Any = None
    result = validation.validate(cfg, WORLD, source, train_step, Progress(9, 10, 4))
    assert calls == [(train_step.task.get_submodule("net.model"), cfg.TEST.SELECT_ON)]
    assert not train_step.task.training
    return result.selected_by(cfg.TRAIN.SELECT)


SCORES = [scores("SC", 0.9, 0.8), scores("CC", 0.4, 0.3)]


@pytest.mark.parametrize(
    ("pairs", "name", "value"),
    [
        ((), "CC rank-1", 0.4),
        (("TEST.SELECT_METRIC", "map"), "CC mAP", 0.3),
        (("TEST.SELECT_PROTOCOL", "SC"), "SC rank-1", 0.9),
        (("TEST.SELECT_PROTOCOL", "SC", "TEST.SELECT_METRIC", "map"), "SC mAP", 0.8),
        (("TRAIN.SELECT", "mAP max"), "CC mAP", 0.3),
        (("TRAIN.SELECT", "SC mAP max"), "SC mAP", 0.8),
        (("TEST.SELECT_ON", "val"), "CC rank-1", 0.4),
    ],
)
def test_the_selected_metric_chooses_the_best_state_and_higher_is_better(
    train_step: TrainStep,
    monkeypatch: pytest.MonkeyPatch,
    pairs: tuple[str, ...],
    name: str,
    value: float,
) -> None:
    result = validated(train_step, monkeypatch, SCORES, *pairs)
    assert (result.name, result.value, result.higher_is_better) == (name, value, True)
    assert result.better_than(value - 0.01)
    assert not result.better_than(value)
    assert result.row["SC rank-5"] == 0.9
    assert result.row["CC mAP"] == 0.3
    assert result.results is not None
    assert result.results["selected_on"] == ("val" if "val" in pairs else "test")


def test_a_protocol_without_valid_queries_selects_nothing_and_is_reported(
    train_step: TrainStep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = validated(train_step, monkeypatch, [SCORES[0], scores("CC", math.nan, math.nan)])
    assert not result.better_than(0.0)
    assert result.better_than(None)
    printed = capsys.readouterr().err
    assert "no query has a match under CC" in printed
    assert "TRAIN.SELECT 'SC rank-1 max'" in printed


RECORDED = (
    "Epoch1 Time:64.5s Data:0.1s ClaLoss:1.3595 PairLoss:0.5756 CloLoss:2.1287 AdvLoss:1.9892 "
    "Acc:15.62% CloAcc:9.38% ",
    "Epoch2 Time:3.3s Data:0.0s ClaLoss:1.4023 PairLoss:0.4508 CloLoss:2.1298 AdvLoss:1.9012 "
    "Acc:28.12% CloAcc:25.00% ",
)
NAMES = {"ClaLoss": "classification", "PairLoss": "pair", "CloLoss": "clothes"}
NAMES |= {"AdvLoss": "adversarial", "Acc": "accuracy", "CloAcc": "clothes_accuracy"}


@pytest.mark.parametrize("line", RECORDED)
def test_the_log_line_of_an_epoch_is_as_recorded(line: str) -> None:
    numbers = dict(re.findall(r"(\w+):([\d.]+)", line))
    assert list(numbers) == ["Time", "Data", *NAMES]
    means = {
        term: float(numbers[name]) / (100 if name.endswith("Acc") else 1)
        for name, term in NAMES.items()
    }
    epoch = int(line[5]) - 1
    seconds, waited = float(numbers["Time"]), float(numbers["Data"])
    assert validation.epoch_line(means, epoch, seconds, waited) == line


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_reports_the_best_and_the_last_state(
    rank: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, epoch, row in (("best", 5, SCORES[0]), ("last", 10, SCORES[1])):
        facts = {"epoch": epoch, "selected_by": "CC rank-1", "scores": [asdict(row)]}
        (tmp_path / f"validation-{name}.json").write_text(json.dumps(facts))
    validation.finish(compose("prcc"), World(rank, 2, CPU), tmp_path)
    printed = capsys.readouterr()
    if rank:
        assert not printed.out
        return
    assert re.search(r"best, epoch 5.*90\.0", printed.out)
    assert re.search(r"last, epoch 10.*40\.0", printed.out)
    assert "best checkpoint by CC rank-1" in printed.out
    assert "selected on the test set" in printed.err


def test_the_rank_lists_of_the_same_queries_are_drawn_at_every_evaluation(tmp_path: Path) -> None:
    features = synthetic_features()
    source = empty_source(write_records(features, tmp_path), folder=tmp_path)
    shown = []
    flipped = replace(features.gallery, features=features.gallery.features.flip(0))
    for ranked in (features, replace(features, gallery=flipped)):
        (row,) = (one for one in score_protocols(ranked, CPU) if one.protocol == "CC")
        shown.append(validation.images(compose("prcc"), source, ranked, row))
        assert row.ranking is not None
        pairs = zip(features.query.paths, row.ranking.valid, strict=True)
        valid = {path for path, is_valid in pairs if is_valid}
        assert len(shown[-1]) == min(validation.DRAWN, len(valid))
        assert set(shown[-1]) <= valid
    assert list(shown[0]) == list(shown[1])
    assert any((shown[0][path] != shown[1][path]).any() for path in shown[0])


def write_records(features: ExtractedFeatures, folder: Path) -> EvalSplit:
    """Write an image for each row, each in another shade; return the split of these images."""
    sides = []
    for side in (features.query, features.gallery):
        for number, path in enumerate(side.paths):
            write_image(folder / path, np.full((8, 4, 3), 3 * number, np.uint8))
        labels = (side.labels[name].tolist() for name in ("identity", "camera", "clothes"))
        rows = zip(side.paths, *labels, strict=True)
        sides.append(tuple(Record((path,), *row) for path, *row in rows))
    return EvalSplit(query=sides[0], gallery=sides[1], protocols=STANDARD)
