"""An evaluation run: from frames to tables with published results, JSON files and images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from ffreid import atomic, report
from ffreid.engine import page, precision
from ffreid.engine.calibrations import path_of
from ffreid.engine.checkpoints import contents
from ffreid.engine.dataset_files import file_name, write_images
from ffreid.engine.distributed import group
from ffreid.engine.distributed.group import World
from ffreid.engine.fingerprint import checksum
from ffreid.engine.timing import Stopwatch
from ffreid.engine.tracking import run_folder
from ffreid.engine.tracking.progress import ProgressBar
from ffreid.errors import UserError
from ffreid.pose import build, calibration, evaluation_page, sources
from ffreid.pose.bop.dataset import BopDataset
from ffreid.pose.bop.evaluation import evaluate_frame_results, evaluate_results
from ffreid.pose.bop.reader import BopReader
from ffreid.pose.data.batch import GroundTruth
from ffreid.pose.data.checks import Labels, count_notes
from ffreid.pose.data.meshes import Meshes
from ffreid.pose.draw import RgbImage, draw_poses
from ffreid.pose.inference import FrameResult, Network, evaluate_frames, pose_rows
from ffreid.pose.objects import ObjectModels, ycb_objects
from ffreid.pose.predictions import (
    count_unscored,
    gt_from_folder,
    read_predictions,
    score_predictions,
    unread_files,
)
from ffreid.pose.published import comparable_results
from ffreid.pose.results_table import results_table
from ffreid.pose.scoring import diameters, instance_rows, summarise
from ffreid.pose.separate import evaluate_separate
from ffreid.pose.stored_objects import StoredObjects, unpack

_NAMED = 5
"""Skipped frames that are named in a message."""


def evaluate(
    cfg: CfgNode,
    world: World,
    *,
    folder: Path,
    weights: Path | None,
    json_file: Path | None = None,
    use_gt: bool = False,
    pictures: int = 0,
    report_file: Path | None = None,
    calibrate: bool = False,
) -> dict[str, Any]:
    """Evaluate the network in `weights`, or the ground truth labels and offsets.

    With `calibrate` it writes a calibration of scores beside the weights; otherwise it tells how
    well one that is there fits these frames.

    Writes ``results.json``, ``poses.json`` and ``pictures/*.png`` below `folder` (below its
    ``test-gt`` with `use_gt`) and prints the table, in the first process; `report_file` is an
    HTML page.
    """
    if report_file is not None and world.is_main:
        page.check(report_file)
    if calibrate and weights is not None and world.is_main:
        atomic.check_writable(path_of(weights), stream=False)
    source = group.main_process_first(lambda: sources.open_source(cfg))
    net: Network | None = None
    stored: StoredObjects | None = None
    trained_on = ""
    weights_sum, known = 0, None
    origin: dict[str, Any] = {"weights": "none: ground truth labels and offsets"}
    messages = ["voting with the ground truth labels and offsets"]
    if use_gt:
        folder = folder / "test-gt"
    else:
        assert weights is not None
        trained, state = build.load_network(weights, source.objects, world.device)
        stored = unpack(state, cfg.DATASET, weights)
        loaded = trained.state_dict()
        weights_sum = checksum(loaded)
        group.refuse_differences(lambda: {"the checksum of the weights": weights_sum})
        known = (
            None
            if calibrate
            else calibration.beside(weights, weights_sum, calibration.voting_of(cfg))
        )
        net = build.for_evaluation(cfg, trained.to(precision.dtype(cfg)))
        text = contents.describe_origin(state, weights)
        trained_on = str(state.get("dataset") or "")
        origin = {"weights": weights, "step": state.get("step"), "origin": text}
        origin["trained_on"] = trained_on or None
        origin["precision"] = str(precision.dtype(cfg)).removeprefix("torch.")
        if cfg.TEST.PRECISION == "bf16":
            origin["precision"] = "bfloat16 in deep colour layers, else float32"
        changed = build.changed_settings(cfg, state)
        if cfg.TEST.PRECISION == "bf16":
            changed = [*changed, *precision.slow_bf16(torch.bfloat16, world.device)]
        messages = [f"evaluating {text}", *(f"note: {note}" for note in changed)]
        if {trained_on, cfg.DATASET} == {"ycb", "ycbv"}:
            frame = "BOP's models, which are shifted" if cfg.DATASET == "ycbv" else "the authors'"
            told = f"note: trained on {trained_on}: its keypoints are the same places here, in the"
            messages.append(f"{told} frame of {frame}; poses and truth are of that frame")
    names = build.evaluation_set(cfg, source, cfg.TEST.LIMIT).names
    notes: list[str] = []
    if world.is_main:
        for message in messages:
            report.log(message)
        sources.check_meshes(source, names)
        run_folder.prepare_results(folder, "poses.json", pictures=pictures > 0)
        notes = sources.list_notes(cfg, source.reader, names)
        notes += sources.frame_notes(source, {"test": names}, count=False)
        for note in notes:
            report.log(f"note: {note}")
    count = len(names)
    local_count = len(range(world.rank, count, world.size))
    watch = Stopwatch()
    with ProgressBar("evaluating", local_count, show=world.is_main) as bar:
        results = evaluate_frames(
            build.evaluation_batches(cfg, world, source, cfg.TEST.LIMIT),
            net,
            source.objects,
            source.meshes,
            build.voting(cfg),
            device=world.device,
            dtype=precision.dtype(cfg),
            keep_images=pictures,
            watch=watch,
            rate=calibrate or known is not None,
            instances=cfg.VOTE.INSTANCES,
            visibility=report_file is not None,
            rated_on=None if stored is None else stored.points,  # as in predictions
            advance=bar.advance,
        )
    results = sorted(group.gather_rows(results), key=lambda result: result.gt.index)
    scores = [score for result in results for score in result.scores]
    sizes = diameters(source.objects, source.meshes)
    summary = summarise(scores, source.objects, sizes)

    def class_ids(gt: GroundTruth) -> list[int]:  # with VOTE.INSTANCES several are no matter
        found: list[int] = gt.class_ids.tolist()
        return sorted(set(found)) if cfg.VOTE.INSTANCES else found

    labels = [
        Labels(gt.name, class_ids(gt), not use_gt or any(s.solved for s in result.scores))
        for result in results
        if (gt := result.gt) and not result.skipped
    ]
    skipped = {r.gt.name: r.skipped for r in results if r.skipped}
    listed = cfg.DATA.FRAMES or source.reader.test_names
    counted = count_notes(labels, source.objects, looked_at=False)
    counted += skipped_notes(skipped, len(results))
    if count < len(listed):
        counted.append(f"{count} of {len(listed)} frames are evaluated (TEST.LIMIT {count})")
    absent = [
        result.gt.name
        for result in results
        for pose in result.poses
        if pose.class_id not in result.gt.class_ids
    ]
    payload = origin | {
        "voting": cfg.VOTE.MODE,
        "results": summary,
        "notes": notes + counted,
        "data": source.summary(),
        "frames": len(results),
        "skipped_frames": skipped,
        "left_out": {
            "frames": len(listed) - count,
            "poses of objects that are not in the frame": len(absent),
        },
        "config": cfg.dump(),
        "provenance": run_folder.provenance(cfg.SEED, world.size, str(world.device)),
    }
    rated = _rated(results, summary, source.objects)
    if calibrate:
        payload["calibration"] = calibration.summary(*rated)
    elif known is not None:
        payload["calibration"] = calibration.check(known, *rated[:2])
    if world.is_main:
        published, lines = None, list[str]()
        if not use_gt:
            published, lines = comparable_results(cfg.DATASET, len(results), trained_on)
            if origin["precision"] != "float32":
                lines.append(f"note: the network's precision is {origin['precision']}")
        if cfg.VOTE.MODE != "exact":
            lines.append(f"note: VOTE.MODE is {cfg.VOTE.MODE}; the authors' voting is exact")
        lines = [*lines, *(f"note: {note}" for note in counted)]
        _print_results(summary, published, lines)
        if isinstance(reader := source.reader, BopReader):
            payload["bop"] = evaluate_frame_results(
                reader.dataset(reader.split),
                folder,
                results,
                source.objects,
                name=reader.folder.name if cfg.DATASET == "bop" else cfg.DATASET,
                compare=not use_gt,
            )
        atomic.write_json(folder / "results.json", payload)
        if json_file is not None:
            atomic.write_json(json_file, payload)
        rows = {
            "poses": pose_rows(results, source.objects),
            "instances": instance_rows(scores, source.objects),
        }
        atomic.write_json(folder / "poses.json", rows)
        _write_images(folder / "pictures", results, source)
        if report_file is not None:
            evaluation_page.write(
                report_file,
                payload,
                results,
                results_table(summary, published),
                [*(f"note: {note}" for note in notes), *lines],
                objects=source.objects,
                meshes=source.meshes,
                diameters=sizes,
                load=build.evaluation_set(cfg, source, cfg.TEST.LIMIT).__getitem__,
                seconds=watch.seconds,
            )
            report.log(f"report: {report_file}")
        report.log(f"results in {folder / 'results.json'}, poses in {folder / 'poses.json'}")
        if checked := payload.get("calibration"):
            for table in calibration.tables(checked):
                report.show_table(*table)
        if calibrate and weights is not None:
            facts = {"weights": weights_sum, "dataset": cfg.DATASET, "frames": len(results)}
            facts |= {"voting": calibration.voting_of(cfg), "provenance": payload["provenance"]}
            target = path_of(weights)
            calibration.write(target, calibration.fit(*rated[:2], facts), payload["calibration"])
            report.log(f"calibration in {target}")
    return payload


def evaluate_predictions(
    cfg: CfgNode, predictions: Path, *, gt: Path | None, frames: Path | None, json_file: Path | None
) -> dict[str, Any]:
    """Score poses of another method, without images or network, and print the table.

    `cfg` is of ``ycb``; its root has ``models/``, and meta.mat files where `gt`, a folder of ground
    truth in the text format, is None. `predictions` are a folder of text files, or a BOP results
    CSV. `frames` is a file of frame names; None takes the test list. For LineMOD's objects
    `predictions` may be a folder of runs, see `evaluate_separate`.
    """
    if predictions.is_dir() and (cfg.DATA.LAYOUT == "linemod" or sources.is_linemod(cfg)):
        objects = sources.layout_of(cfg).objects(cfg)
        is_bop = sources.layout_of(cfg) is sources.BOP_LINEMOD
        data = BopDataset(sources.bop_folder(cfg), cfg.DATA.SPLIT) if is_bop else None
        return evaluate_separate(predictions, objects, data, name=cfg.DATASET, json_file=json_file)
    if cfg.DATA.LAYOUT == "bop":
        if unused := ["--truth"] * (gt is not None) + ["--frames"] * (frames is not None):
            raise UserError(f"{unused[0]} has no effect with BOP datasets", f"remove {unused[0]}")
        models = sources.own_models(cfg)
        data = BopDataset(sources.bop_folder(cfg), cfg.DATA.SPLIT, models=models)
        name = "" if cfg.DATASET == "bop" else cfg.DATASET
        return evaluate_results(data, predictions, name=name, json_file=json_file)
    if cfg.DATASET != "ycb":
        raise UserError(
            f"--predictions works with datasets ycb and bop, not {cfg.DATASET}",
            "use --dataset ycb or --dataset bop",
        )
    objects = ycb_objects()
    root = Path(cfg.DATA.ROOT)
    if json_file is not None:
        atomic.check_writable(json_file)
    if gt is None:
        gts = sources.ycb_ground_truth(root, objects, frames)
    elif frames is None:
        raise UserError("--truth needs a list of frames", "add --frames FILE")
    else:
        gts = gt_from_folder(gt, frames, objects)
    poses = read_predictions(predictions, objects, frames)
    meshes = sources.ycb_meshes(root, objects)
    with ProgressBar("scoring", len(gts)) as bar:
        scores = score_predictions(gts, poses, objects, meshes, progress=bar.update)
    summary = summarise(scores, objects, diameters(objects, meshes))
    left_out = count_unscored(gts, poses)
    if predictions.is_dir():
        left_out["files"] = unread_files(predictions, frames)
    notes = [f"not scored: {what}: {count}" for what, count in left_out.items() if count]
    payload = {
        "predictions": predictions,
        "truth": gt or root,
        "results": summary,
        "frames": len(gts),
        "poses": sum(map(len, poses.values())),
        "left_out": left_out,
        "notes": notes,
        "provenance": run_folder.provenance(cfg.SEED, 1, "cpu"),
    }
    published, lines = comparable_results(objects.dataset, len(gts))
    _print_results(summary, published, [*lines, *(f"note: {note}" for note in notes)])
    if json_file is not None:
        atomic.write_json(json_file, payload)
    return payload


def _rated(
    results: Sequence[FrameResult], summary: Mapping[str, Any], objects: ObjectModels
) -> tuple[list[float], list[bool], list[int]]:
    """Raw scores of all solved poses (if known), whether ADD(-S) is below 0.1 d, their frames."""
    scores, right, frames = list[float](), list[bool](), list[int]()
    for result in results:
        errors: dict[int, float] = {}
        for score in result.scores:
            error = score.adds if score.class_id in objects.symmetric else score.add
            errors[score.class_id] = min(error, errors.get(score.class_id, error))
        for pose, raw in zip(result.poses, result.raw_scores, strict=False):
            if pose.solved:
                row = summary["classes"].get(objects.name(pose.class_id))
                limit = 0.1 * row["diameter_m"] if row else 0.0
                scores.append(raw)
                right.append(errors.get(pose.class_id, np.inf) < limit)
                frames.append(result.gt.index)
    return scores, right, frames


def _print_results(
    summary: dict[str, Any], published: Mapping[str, Any] | None, lines: Sequence[str]
) -> None:
    report.show_table(f"{summary['dataset']}: poses", *results_table(summary, published))
    for line in lines:
        report.log(line)


def skipped_notes(skipped: Mapping[str, str], frames: int) -> list[str]:
    """A note on the skipped frames, given with their reasons, of `frames`; none without any."""
    if not skipped:
        return []
    named = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:_NAMED])
    more = ", …" * (len(skipped) > _NAMED)
    return [
        f"{len(skipped)} of {frames} frames are skipped, their objects count as missed: "
        f"{named}{more}"
    ]


def _write_images(folder: Path, results: list[FrameResult], source: sources.Source) -> None:
    drawn = [result for result in results if result.rgb is not None]
    if not drawn:
        return
    write_images(
        folder,
        (
            (file_name(result.gt.name), draw_result(result, source.objects, source.meshes))
            for result in drawn
        ),
    )
    report.log(f"{len(drawn)} images in {folder}")


def draw_result(result: FrameResult, objects: ObjectModels, meshes: Meshes) -> RgbImage:
    """Draw the ground truth and the estimated poses of a frame that kept its image."""
    gt = result.gt
    assert result.rgb is not None
    return draw_poses(
        result.rgb,
        gt.intrinsics,
        points={c: meshes.get(c, objects.keypoints[c - 1]) for c in objects.class_ids},
        predicted=[(p.class_id, p.camera_from_object) for p in result.poses if p.solved],
        true=list(zip(gt.class_ids.tolist(), gt.camera_from_object, strict=True)),
        names={class_id: objects.name(class_id) for class_id in objects.class_ids},
    )
