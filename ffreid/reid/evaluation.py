"""Evaluation of a checkpoint, or of saved features: table, JSON and rank lists."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from torch import nn
from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.config import differing
from ffreid.engine import page
from ffreid.engine.calibrations import path_of
from ffreid.engine.checkpoints import contents
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.fingerprint import checksum
from ffreid.engine.precision import dtype, slow_bf16
from ffreid.engine.tracking import run_folder
from ffreid.errors import UserError
from ffreid.reid import build, calibration, evaluation_page, sources
from ffreid.reid import features as saved_features
from ffreid.reid.data.own_images import own_image_notes, own_images, seen_in_training
from ffreid.reid.data.records import Source
from ffreid.reid.feature_extraction import extract_features, skipped_notes
from ffreid.reid.features import BASELINE, CAL, ExtractedFeatures
from ffreid.reid.gallery import fingerprint
from ffreid.reid.published import compare
from ffreid.reid.scoring import ResultRow, score_protocols, unusable_protocols
from ffreid.reid.table import as_json, query_rows, show_results
from ffreid.reid.visualization import draw_rank_lists, row_to_draw


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
    report_file: Path | None = None,
    calibrate: bool = False,
) -> dict[str, Any]:
    """Evaluate the checkpoint `weights` or saved `features`, and print the table.

    The first process writes ``results.json`` (also to `json_file`), ``queries.json`` and the rank
    lists of `pictures` queries, ``pictures/*.png``, to `folder`. `rerank` adds rows with
    k-reciprocal re-ranking; `report_file` is an HTML page. `calibrate` writes thresholds
    beside `weights`.
    """
    if world.is_main:
        if report_file is not None:
            page.check(report_file)
        if calibrate and weights is not None:
            atomic.check_writable(path_of(weights), stream=False)
        run_folder.prepare_results(folder, "queries.json", pictures=pictures > 0)
        if save_features is not None:
            try:
                atomic.check_writable(save_features, stream=False, magic=b"PK")
            except UserError as error:
                raise UserError(error.message, "use --save-features with another file") from error
    source: Source | None = None
    seconds: dict[str, float] = {}
    if features is not None:
        unused = ["--pictures"] * bool(pictures) + ["--save-features"] * (save_features is not None)
        if unused:
            raise UserError(
                f"{', '.join(unused)} has no effect with --features, which reads no images",
                f"remove {unused[0]}, or evaluate a checkpoint",
            )
        extracted = saved_features.load(features, cfg.DATASET)
        origin: dict[str, Any] = {"features": features, "weights": extracted.weights}
    else:
        assert weights is not None, "neither weights nor features"
        source = group.main_process_first(lambda: sources.open_source(cfg))
        net, state = build.load_network(weights, cfg, world.device)
        loaded = net.state_dict()
        group.refuse_differences(lambda: {"the checksum of the weights": checksum(loaded)})
        half = cfg.TEST.PRECISION == "bf16"
        origin = {
            "weights": weights,
            "origin": contents.describe_origin(state, weights),
            "data": source.summary(),
            "engine": cfg.TEST.ENGINE,
            "precision": "bfloat16" if half else str(dtype(cfg)).removeprefix("torch."),
        }
        net = build.for_evaluation(cfg, net)
        if world.is_main:
            report.log(f"evaluating {origin['origin']}")
            report.log(f"data: {origin['data']}")
            slow = slow_bf16(torch.bfloat16, world.device) if half else []
            for line in (*source.notes, *build.changed_settings(cfg, state), *slow):
                report.log(f"note: {line}")
            if cfg.TEST.SELECT_ON == "test":
                report.log(
                    "note: best weights are selected on the test set, as in Simple-CCReID; "
                    "TEST.SELECT_ON val selects on a validation split, if there is one"
                )
        started = perf_counter()
        extracted = extract_features(cfg, world, source, net, source.test, str(weights))
        seconds["features"] = perf_counter() - started
        own = own_images(source.test, source) if world.is_main else {}
        extracted = replace(
            extracted,
            own_images=own,
            method=training_method(cfg, state),
            trained_on=training_dataset(cfg, state, source),
        )
        origin |= {"step": state["step"]} if "step" in state else {}
        origin |= {"epoch": state["epoch"] + 1} if "epoch" in state else {}
        if save_features is not None and world.is_main:
            saved_features.save(save_features, extracted)
    started = perf_counter()
    rows = _scored(extracted, world)
    rows += _scored(extracted, world, reranked=True) if rerank else []
    seconds["ranking"] = perf_counter() - started
    published, lines = compare(
        rows, extracted.dataset, extracted.network, extracted.method, extracted.trained_on
    )
    unusable, notes = unusable_protocols(extracted), evaluation_notes(extracted)
    notes += seen_in_training(source) if source is not None and world.is_main else []
    payload = origin | {
        "dataset": extracted.dataset,
        "network": extracted.network,
        "trained_on": extracted.trained_on or None,
        "results": as_json(rows, published, len(extracted.query)),
        "left_out": unusable,
        "notes": notes,
        "queries": len(extracted.query),
        "gallery": len(extracted.gallery),
        "skipped": dict(zip(("queries", "gallery"), extracted.skipped, strict=True)),
        "broken": dict(extracted.broken),
        "own_images": dict(extracted.own_images),
        "selected_on": cfg.TEST.SELECT_ON,
        "config": cfg.dump(),
        "provenance": run_folder.provenance(cfg.SEED, world.size, str(world.device)),
    }
    if not world.is_main:
        return payload
    title = f"{extracted.dataset}: {extracted.network}, percent; pairs are rank-1 / mAP"
    lines = [*lines, *(f"note: {note}" for note in notes)]
    show_results(title, rows, published, lines)
    atomic.write_json(folder / "results.json", payload)
    queries = query_rows(extracted, rows, world.device)
    atomic.write_json(folder / "queries.json", {"queries": queries})
    if json_file is not None:
        atomic.write_json(json_file, payload)
    report.log(f"results: {folder / 'results.json'}; per query: {folder / 'queries.json'}")
    if save_features is not None:
        report.log(f"features: {save_features}")
    if report_file is not None:
        evaluation_page.write(
            report_file, payload, extracted, rows, published, lines, source=source, seconds=seconds
        )
        report.log(f"report: {report_file}")
    if calibrate and weights is not None:
        results = calibration.calibrate(extracted, world.device)
        file = path_of(weights)
        mark = fingerprint(cfg, loaded, rounding=False)
        about = {"dataset": extracted.dataset, "fingerprint": mark}
        calibration.write(file, results, about)
        text = "strangers with a false match in the whole gallery, and queries found, percent"
        report.show_table(text, calibration.COLUMNS, calibration.table(results))
        report.log(f"calibration: {file}")
    if pictures and source is not None:
        row = row_to_draw(rows)
        if row is None:
            report.log("note: no rank lists are drawn, as no query has a match")
        else:
            drawn = draw_rank_lists(source, extracted, row, folder / "pictures", pictures)
            report.log(
                f"{drawn} rank lists ({row.protocol}), from the worst to the best average "
                f"precision: {folder / 'pictures'}"
            )
    return payload


def evaluate_split(
    cfg: CfgNode, world: World, source: Source, net: nn.Module, *, split: Literal["test", "val"]
) -> tuple[ExtractedFeatures, list[ResultRow]]:
    """Evaluate a network on ``test`` or ``val`` during training; all processes call it."""
    records = source.split(split)
    features = extract_features(cfg, world, source, net, records, "of the training run")
    if world.is_main:
        for note in skipped_notes(features):
            report.log(f"note: {note}")
    return features, _scored(replace(features, single_shot=()), world)


def _scored(
    features: ExtractedFeatures, world: World, *, reranked: bool = False
) -> list[ResultRow]:
    """Rank and score in the first process; the others receive the rows, without rankings."""
    rows: list[ResultRow] = []
    if world.is_main:
        rows = score_protocols(features, world.device, reranked=reranked)
    received: list[ResultRow] = group.gather_rows([replace(row, ranking=None) for row in rows])
    return rows if world.is_main else received


def evaluation_notes(features: ExtractedFeatures) -> list[str]:
    """Lines on what the table of these features leaves out, or what spoils it."""
    notes = [
        f"{name} is not evaluated: no {', '.join(missing)} labels"
        for name, missing in unusable_protocols(features).items()
    ]
    notes += [f"features are computed {how}" for how in [features.computed] if how]
    notes += skipped_notes(features)
    notes += own_image_notes(features.own_images, len(features.query) + features.skipped[0])
    gallery = features.gallery.features
    if len(gallery) > 1 and torch.equal(gallery[1:], gallery[:-1]):
        notes.append("all gallery features are equal, so its order decides the ranks")
    return notes


def training_dataset(cfg: CfgNode, state: Mapping[str, Any], source: Source) -> str:
    """The dataset that trained a checkpoint, empty if unknown.

    A file of another program does not name it: it is that of `cfg` if it has as many classes.
    """
    if isinstance(name := state.get("dataset"), str):
        return name
    classes = len(source.identities) + len(source.clothes)
    return str(cfg.DATASET) if state.get("class_count") == classes else ""


def training_method(cfg: CfgNode, state: dict[str, Any]) -> str:
    """The method that trained a checkpoint, from its configuration, else from `cfg`."""
    trained = {key: then for key, then, _ in differing(cfg, state.get("config", "{}"))}
    return BASELINE if trained.get("LOSS.CAL", cfg.LOSS.CAL) == "none" else CAL
