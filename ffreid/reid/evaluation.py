"""An evaluation run: a checkpoint, or features saved earlier, to table, JSON and pictures."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn
from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine.checkpoints import contents
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError
from ffreid.reid import build, sources
from ffreid.reid import features as saved_features
from ffreid.reid.data.records import Source
from ffreid.reid.feature_extraction import extract_features
from ffreid.reid.features import BASELINE, CAL, ExtractedFeatures
from ffreid.reid.published import notes, published
from ffreid.reid.scoring import ResultRow, score_protocols, unusable_protocols
from ffreid.reid.table import COLUMNS, as_json, query_rows, table
from ffreid.reid.visualization import draw_rank_lists, row_to_draw


def needs_weights(options: Mapping[str, Any]) -> bool:
    """Tell whether `evaluate` with these options needs a checkpoint."""
    return options.get("features") is None


def evaluate(
    cfg: CfgNode,
    world: World,
    *,
    folder: Path,
    weights: Path | None,
    pictures: int = 0,
    json_file: Path | None = None,
    save_features: Path | None = None,
    features: Path | None = None,
    rerank: bool = False,
) -> dict[str, Any]:
    """Evaluate the network in `weights`, or `features` saved earlier, and print the table.

    Writes ``results.json``, ``queries.json`` and ``pictures/*.png`` below `folder`, in the first
    process.

    Args:
        cfg: frozen configuration.
        world: this process among those that share the work.
        folder: of the run.
        weights: checkpoint; None with `features`.
        pictures: draw the rank lists of this many queries.
        json_file: write the results there too.
        save_features: write the features there.
        features: file of an earlier run's features, evaluated without network and pictures.
        rerank: add rows with k-reciprocal re-ranking.

    Raises:
        UserError: data, checkpoint or features cannot be used, or a file cannot be written.
    """
    if world.is_main:
        run_folder.create_folder(folder)
        _prove_writable(save_features)
    source: Source | None = None
    if features is not None:
        _refuse_without_network(pictures, save_features)
        search = saved_features.load(features, cfg.DATASET)
        origin: dict[str, Any] = {"features": features, "weights": search.weights}
    else:
        assert weights is not None, "neither weights nor features"
        source = group.main_process_first(lambda: sources.open_source(cfg))
        search, origin = _embedded_by(cfg, world, source, weights)
        if save_features is not None and world.is_main:
            saved_features.save(save_features, search)
    rows = score_protocols(search, world.device)
    rows += score_protocols(search, world.device, reranked=True) if rerank else []
    payload = origin | _payload(cfg, world, search, rows)
    if world.is_main:
        _show(cfg, search, rows)
        _write(folder, payload, search, rows, json_file)
        if save_features is not None:
            report.log(f"features in {save_features}")
        if pictures and source is not None:
            _draw(source, search, rows, folder / "pictures", pictures)
    return payload


def evaluate_split(
    cfg: CfgNode, world: World, source: Source, net: nn.Module, *, split: Literal["test", "val"]
) -> tuple[ExtractedFeatures, list[ResultRow]]:
    """Search with a network that is being trained; every process calls it and gets all.

    Args:
        cfg: sizes, clips, batch and workers.
        world: this process.
        source: the data set.
        net: the network; its modules' modes are as before afterwards.
        split: ``test`` or ``val``.

    Raises:
        UserError: the data set has no such split, or no protocol can be used.
    """
    search = {"test": source.test, "val": source.val}[split]
    if search is None:
        raise UserError(
            f"{source.name} has no validation split",
            "set TEST.SELECT_ON test to select on the test",
        )
    found = extract_features(cfg, world, source, net, search, "of the training run")
    return found, score_protocols(replace(found, single_shot=()), world.device)


def _embedded_by(
    cfg: CfgNode, world: World, source: Source, weights: Path
) -> tuple[ExtractedFeatures, dict[str, Any]]:
    """Give the test search as the checkpoint's network sees it, and where that is from."""
    net, state = build.load_network(weights, cfg, world.device)
    if world.is_main:
        _introduce(cfg, source, weights, state)
    search = extract_features(cfg, world, source, net, source.test, str(weights))
    told = contents.describe_origin(state, weights)
    origin: dict[str, Any] = {"weights": weights, "origin": told, "data": source.summary()}
    origin |= {"step": state["step"]} if "step" in state else {}
    origin |= {"epoch": state["epoch"] + 1} if "epoch" in state else {}
    return replace(search, method=training_method(cfg, state)), origin


def training_method(cfg: CfgNode, state: dict[str, Any]) -> str:
    """What trained a checkpoint, as it says itself, else as the configuration does."""
    trained = {key: then for key, then, _ in differing(cfg, state.get("config", "{}"))}
    return BASELINE if trained.get("LOSS.CAL", cfg.LOSS.CAL) == "none" else CAL


def _refuse_without_network(pictures: int, save_features: Path | None) -> None:
    idle = ["--pictures"] * bool(pictures) + ["--save-features"] * (save_features is not None)
    if idle:
        raise UserError(
            f"{', '.join(idle)} does nothing with --features, which reads no pictures",
            f"leave {idle[0]} out, or evaluate a checkpoint",
        )


def _prove_writable(path: Path | None) -> None:
    """Prove before long work that the features can be written."""
    if path is None:
        return
    try:
        atomic.check_writable(path)
    except UserError as error:
        raise UserError(error.message, "choose another file with --save-features FILE") from error


def _introduce(cfg: CfgNode, source: Source, weights: Path, state: dict[str, Any]) -> None:
    report.log(f"evaluating {contents.describe_origin(state, weights)}")
    report.log(f"data: {source.summary()}")
    for line in source.notes:
        report.log(f"note: {line}")
    for line in build.changed_settings(cfg, state):
        report.log(f"note: {line}")
    if cfg.TEST.SELECT_ON == "test":
        report.log(
            "note: best weights are those that do best on the test set, as in the original; "
            "TEST.SELECT_ON val selects on a validation split where there is one"
        )


def _payload(
    cfg: CfgNode, world: World, search: ExtractedFeatures, rows: list[ResultRow]
) -> dict[str, Any]:
    theirs = published(search.dataset, search.network, search.method)
    return {
        "dataset": search.dataset,
        "network": search.network,
        "results": as_json(rows, theirs),
        "left_out": unusable_protocols(search),
        "queries": len(search.query),
        "gallery": len(search.gallery),
        "broken": dict(search.broken),
        "selected_on": cfg.TEST.SELECT_ON,
        "config": cfg.dump(),
        "provenance": run_folder.provenance(cfg.SEED, world.size, str(world.device)),
    }


def _show(cfg: CfgNode, search: ExtractedFeatures, rows: list[ResultRow]) -> None:
    theirs = published(search.dataset, search.network, search.method)
    title = f"{search.dataset}: {search.network}, percent; pairs are rank-1 / mAP"
    report.show_table(title, COLUMNS, table(rows, theirs), digits=1)
    shown = {row.protocol for row in rows}
    for line in notes(search.dataset, search.network, shown, search.method):
        report.log(line)
    for name, missing in unusable_protocols(search).items():
        report.log(f"note: {name} is left out: {', '.join(missing)} is not known")


def _write(
    folder: Path,
    payload: dict[str, Any],
    search: ExtractedFeatures,
    rows: list[ResultRow],
    json_file: Path | None,
) -> None:
    atomic.write_json(folder / "results.json", payload)
    atomic.write_json(folder / "queries.json", {"queries": query_rows(search, rows)})
    if json_file is not None:
        atomic.write_json(json_file, payload)
    report.log(f"results in {folder / 'results.json'}, by query in {folder / 'queries.json'}")


def _draw(
    source: Source, search: ExtractedFeatures, rows: list[ResultRow], folder: Path, count: int
) -> None:
    row = row_to_draw(rows)
    if row is None:
        report.log("note: no rank lists are drawn, as no query has a match")
        return
    drawn = draw_rank_lists(source, search, row, folder, count)
    report.log(
        f"{drawn} rank lists under {row.protocol}, evenly from the worst to the best average "
        f"precision, in {folder}"
    )
