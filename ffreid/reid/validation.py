"""What is measured while training goes on, and said when it ends."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from ffreid import report
from ffreid.engine.distributed.group import World
from ffreid.engine.task import Images, Plan, Progress, ValidationResult, unwrap
from ffreid.engine.train_step import TrainStep
from ffreid.reid.data.records import Source
from ffreid.reid.evaluation import evaluate, evaluate_split
from ffreid.reid.feature_extraction import extract_features
from ffreid.reid.features import BASELINE, CAL, ExtractedFeatures
from ffreid.reid.published import notes, published
from ffreid.reid.retrieval.scores import RANKS, Scores
from ffreid.reid.scoring import ResultRow, selecting_protocol
from ffreid.reid.table import COLUMNS, table
from ffreid.reid.visualization import rank_list_images

PICTURES = 4
"""Rank lists that are drawn at an evaluation, where pictures are asked for."""


def due(cfg: CfgNode, plan: Plan, done: int) -> bool:
    """Whether the original evaluates after `done` steps: every TEST.EVAL_STEP epochs."""
    epochs, rest = divmod(done, plan.steps_per_epoch)
    test = cfg.TEST
    return bool(
        rest == 0
        and test.EVAL_STEP > 0
        and epochs > test.START_EVAL
        and epochs % test.EVAL_STEP == 0
    )


def validate(
    cfg: CfgNode, world: World, source: Source, train_step: TrainStep, at: Progress
) -> ValidationResult:
    """Search with the network as it stands, over all processes."""
    train_step.prepare_evaluation()
    net = unwrap(train_step.task.get_submodule("net")).get_submodule("model")
    search, rows = evaluate_split(cfg, world, source, net, split=cfg.TEST.SELECT_ON)
    by_name = {row.protocol: row for row in rows}
    found = {name: row.scores for name, row in by_name.items()}
    protocol = selecting_protocol(cfg, list(found))
    rank1 = found[protocol].cmc[1]
    if world.is_main:
        told = [f"{s.name} {s.cmc[1]:.1%} / {s.mean_average_precision:.1%}" for s in found.values()]
        report.log(f"epoch {at.epoch + 1}: rank-1 / mAP: {', '.join(told)}")
        if math.isnan(rank1):
            report.log(
                f"note: no query has a match under {protocol}, so the best state is the last one; "
                f"use another protocol: TRAIN.SELECT '{next(iter(found))} rank-1 max'"
            )
    return ValidationResult(
        row={f"{s.name} {key}": value for s in found.values() for key, value in _numbers(s)},
        name=f"{protocol} rank-1",
        value=rank1,
        higher_is_better=True,
        results={
            "selected_on": cfg.TEST.SELECT_ON,
            "scores": [asdict(s) for s in found.values()],
        },
        measured={"rank1": rank1},
        images=lambda: pictures(cfg, source, search, by_name[protocol]),
    )


def pictures(cfg: CfgNode, source: Source, search: ExtractedFeatures, row: ResultRow) -> Images:
    """Draw the rank lists of four queries, the same after every epoch, by the query's path."""
    assert row.ranking is not None
    searched = source.val if cfg.TEST.SELECT_ON == "val" else source.test
    assert searched is not None
    valid = row.ranking.valid.nonzero().view(-1).tolist()
    chosen = valid[:: max(1, len(valid) // PICTURES)][:PICTURES]
    drawn = rank_list_images(source, searched, search, row, chosen)
    return {search.query.paths[i]: one for i, one in zip(chosen, drawn, strict=True)}


def numbers(cfg: CfgNode, source: Source) -> list[str]:
    """Name the numbers of an evaluation's row."""
    known = {"identity", *source.columns}
    searched = source.val if cfg.TEST.SELECT_ON == "val" and source.val else source.test
    names = [p.name for p in searched.protocols if p.columns <= known]
    return [
        f"{name} {number}" for name in names for number in (*(f"rank-{k}" for k in RANKS), "mAP")
    ]


def one_batch(cfg: CfgNode, world: World, source: Source, train_step: TrainStep) -> object:
    """Take the features of the first batch of queries."""
    train_step.prepare_evaluation()
    net = unwrap(train_step.task.get_submodule("net")).get_submodule("model")
    query = replace(source.test, query=source.test.query[: cfg.DATA.TEST_BATCH], gallery=())
    return extract_features(cfg, world, source, net, query, "of a dry run")


def _numbers(scores: Scores) -> list[tuple[str, float]]:
    numbers = [(f"rank-{k}", scores.cmc[k]) for k in RANKS]
    return [*numbers, ("mAP", scores.mean_average_precision)]


def epoch_line(means: dict[str, float], epoch: int, seconds: float, waited: float) -> str:
    """The original's line of log after `epoch` (from 0), from the epoch's mean terms."""
    line = f"Epoch{epoch + 1} Time:{seconds:.1f}s Data:{waited:.1f}s "
    line += f"ClaLoss:{means['classification']:.4f} PairLoss:{means['pair']:.4f} "
    if "clothes" in means:
        line += f"CloLoss:{means['clothes']:.4f} "
    if "adversarial" in means:
        line += f"AdvLoss:{means['adversarial']:.4f} "
    line += f"Acc:{means['accuracy']:.2%} "
    if "clothes_accuracy" in means:
        line += f"CloAcc:{means['clothes_accuracy']:.2%} "
    return line


def finish(cfg: CfgNode, world: World, folder: Path) -> None:
    """Report the best and the last state apart; on the test split, whatever selected them.

    The best averages of weights, where there are any, stand between them.
    """
    states = ("best", "best-ema", "last") if cfg.TRAIN.EMA else ("best", "last")
    if cfg.TEST.SELECT_ON != "test":
        for name in states:
            if world.is_main:
                report.log(f"the {name} state, selected on the validation split:")
            into = folder if name == "best" else folder / name
            evaluate(cfg, world, folder=into, weights=folder / f"{name}.pth")
        return
    if not world.is_main:
        return
    found = {name: json.loads((folder / f"validation-{name}.json").read_text()) for name in states}
    rows = [
        _row(s, f"{s['name']}, {state}, epoch {one['epoch']}")
        for state, one in found.items()
        for s in one["scores"]
    ]
    best = found["best"]
    method = BASELINE if cfg.LOSS.CAL == "none" else CAL
    theirs = published(cfg.DATASET, cfg.MODEL.NAME, method)
    title = f"{cfg.DATASET}: best state by {best['selected_by']}; percent, pairs are rank-1 / mAP"
    report.show_table(title, COLUMNS, table(rows, theirs), digits=1)
    shown = {row.protocol for row in rows}
    for line in notes(cfg.DATASET, cfg.MODEL.NAME, shown, method):
        report.log(line)
    report.log(
        "note: the best state was chosen on the test set, as the original does; "
        "the last state's numbers are free of that choice"
    )


def _row(found: dict[str, Any], title: str) -> ResultRow:
    """A row of the table from scores as JSON has them: no NaN, no tuples, keys of text."""

    def share(value: float | None) -> float:
        return math.nan if value is None else value

    spans = {key: found[key] and tuple(found[key]) for key in found if key.endswith("_interval")}
    means = {key: share(found[key]) for key in found if key.startswith("mean_")}
    cmc = {int(k): share(value) for k, value in found["cmc"].items()}
    scores = Scores(**(found | spans | means | {"cmc": cmc}))
    return ResultRow(title=title, protocol=scores.name, scores=scores)
