"""Evaluation during training, and the report at its end."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn
from yacs.config import CfgNode

from ffreid import report
from ffreid.engine.distributed.group import World
from ffreid.engine.task import Images, Plan, Progress, ValidationResult, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.errors import UserError
from ffreid.files import regular
from ffreid.reid import build
from ffreid.reid.data.records import Source
from ffreid.reid.evaluation import evaluate, evaluate_split
from ffreid.reid.feature_extraction import extract_features
from ffreid.reid.features import BASELINE, CAL, ExtractedFeatures
from ffreid.reid.published import compare
from ffreid.reid.retrieval.scores import RANKS, Scores
from ffreid.reid.scoring import ResultRow, selecting_protocol
from ffreid.reid.table import show_results
from ffreid.reid.visualization import rank_list_images

METRICS = (*(f"rank-{k}" for k in RANKS), "mAP")
LOSSES = {
    "ClaLoss": "classification",
    "PairLoss": "pair",
    "CloLoss": "clothes",
    "AdvLoss": "adversarial",
}
ACCURACIES = {"Acc": "accuracy", "CloAcc": "clothes_accuracy"}
"""Terms of a step by their labels in Simple-CCReID's log."""
DRAWN = 4
"""Rank lists drawn at an evaluation, with TRAIN.TENSORBOARD."""


def due(cfg: CfgNode, plan: Plan, done: int) -> bool:
    """Whether to evaluate after `done` steps: every TEST.EVAL_STEP epochs."""
    epochs, rest = divmod(done, plan.steps_per_epoch)
    every = cfg.TEST.EVAL_STEP
    return rest == 0 and every > 0 and epochs > cfg.TEST.START_EVAL and epochs % every == 0


def validate(
    cfg: CfgNode, world: World, source: Source, train_step: TrainStep, at: Progress
) -> ValidationResult:
    """Evaluate the current network, over all processes."""
    features, rows = evaluate_split(
        cfg, world, source, _network(cfg, train_step), split=cfg.TEST.SELECT_ON
    )
    by_name = {row.protocol: row for row in rows}
    scores = {name: row.scores for name, row in by_name.items()}
    protocol = selecting_protocol(cfg, list(scores))
    rank1 = scores[protocol].cmc[1]
    if world.is_main:
        pairs = [
            f"{name} {s.cmc[1]:.1%} / {s.mean_average_precision:.1%}" for name, s in scores.items()
        ]
        report.log(f"epoch {at.epoch + 1}: rank-1 / mAP: {', '.join(pairs)}")
        if math.isnan(rank1):
            report.log(
                f"note: no query has a match under {protocol}, so the last checkpoint is the best; "
                f"use another protocol: TRAIN.SELECT '{next(iter(scores))} rank-1 max'"
            )
    return ValidationResult(
        row={
            f"{name} {metric}": value
            for name, s in scores.items()
            for metric, value in zip(
                METRICS, (*s.cmc.values(), s.mean_average_precision), strict=True
            )
        },
        name=f"{protocol} rank-1",
        value=rank1,
        higher_is_better=True,
        results={"selected_on": cfg.TEST.SELECT_ON, "scores": [asdict(s) for s in scores.values()]},
        measured={"rank1": rank1},
        images=lambda: images(cfg, source, features, by_name[protocol]),
    )


def images(cfg: CfgNode, source: Source, features: ExtractedFeatures, row: ResultRow) -> Images:
    """Rank lists of a few queries, the same ones after every epoch, by the query's path."""
    assert row.ranking is not None
    valid = row.ranking.valid.nonzero().view(-1).tolist()
    queries = valid[:: max(1, len(valid) // DRAWN)][:DRAWN]
    drawn = rank_list_images(source, source.split(cfg.TEST.SELECT_ON), features, row, queries)
    return {features.query.paths[i]: image for i, image in zip(queries, drawn, strict=True)}


def numbers(cfg: CfgNode, source: Source) -> list[str]:
    """Names of the numbers in an evaluation's row."""
    return [
        f"{name} {metric}"
        for name in source.protocol_names(cfg.TEST.SELECT_ON)
        for metric in METRICS
    ]


def one_batch(cfg: CfgNode, world: World, source: Source, train_step: TrainStep) -> object:
    """Extract the features of the first batch of queries, for a dry run."""
    query = replace(source.test, query=source.test.query[: cfg.DATA.TEST_BATCH], gallery=())
    return extract_features(cfg, world, source, _network(cfg, train_step), query, "of a dry run")


def _network(cfg: CfgNode, train_step: TrainStep) -> nn.Module:
    train_step.prepare_evaluation()
    net = unwrap(train_step.task.get_submodule("net")).get_submodule("model")
    return build.for_evaluation(cfg, net)


def epoch_line(means: dict[str, float], epoch: int, seconds: float, waited: float) -> str:
    """Simple-CCReID's log line after `epoch` (from 0), from the epoch's mean losses."""
    shown = [f"Epoch{epoch + 1} Time:{seconds:.1f}s Data:{waited:.1f}s"]
    shown += [f"{label}:{means[name]:.4f}" for label, name in LOSSES.items() if name in means]
    shown += [f"{label}:{means[name]:.2%}" for label, name in ACCURACIES.items() if name in means]
    return f"{' '.join(shown)} "


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Report best state, best averaged weights (if any) and last state, on the test split.

    Those selected on the test split have been evaluated already.
    """
    states = ("best", "best-ema", "last") if cfg.TRAIN.EMA else ("best", "last")
    if cfg.TEST.SELECT_ON != "test":
        for name in states:
            if world.is_main:
                report.log(f"the {name} checkpoint, selected on the validation split:")
            target = folder if name == "best" else folder / name
            evaluate(cfg, world, folder=target, weights=folder / f"{name}.pth")
        return
    if not world.is_main:
        return
    results = {name: _read_result(folder, name) for name in states}
    rows = [
        _row(scores, f"{scores['name']}, {state}, epoch {result['epoch']}")
        for state, result in results.items()
        for scores in result["scores"]
    ]
    selected_by = results["best"]["selected_by"]
    method = BASELINE if cfg.LOSS.CAL == "none" else CAL
    title = f"{cfg.DATASET}: best checkpoint by {selected_by}; percent, pairs are rank-1 / mAP"
    show_results(title, rows, *compare(rows, cfg.DATASET, cfg.MODEL.NAME, method, cfg.DATASET))
    report.log(
        "note: the best checkpoint was selected on the test set, as in Simple-CCReID; "
        "the last one was not"
    )


def _read_result(folder: Path, name: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(regular(folder / f"validation-{name}.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"training is complete, but {folder / f'validation-{name}.json'} cannot be read",
            f"evaluate with ffreid eval --checkpoint {folder / f'{name}.pth'}",
        ) from error
    return result


def _row(values: dict[str, Any], title: str) -> ResultRow:
    """A row of the table from scores in JSON: without NaN and tuples, keys as text."""
    intervals = {k: v and tuple(v) for k, v in values.items() if k.endswith("_interval")}
    means = {k: math.nan if v is None else v for k, v in values.items() if k.startswith("mean_")}
    cmc = {int(k): math.nan if v is None else v for k, v in values["cmc"].items()}
    scores = Scores(**(values | intervals | means | {"cmc": cmc}))
    return ResultRow(title=title, protocol=scores.name, scores=scores)
